/* A record's eventSource, eventName and userIdentity.type: the first of each, where a name stands twice.
 *
 * AWS writes the members in one order, which is looked for first. Any other is walked through. A name or value with an escape in it
 * is not read here: such a record is not known to be dull. */
#include "record.h"

#include <stddef.h>
#include <string.h>

#include "masks.h"

/* The end of a string without escapes, of which `at` is the first byte; NULL where it has one. */
static inline SKIM_FAST const uint8_t *plain_end(const uint8_t *at, const uint8_t *end) {
    at = quote_or_backslash(at, end);
    return at < end && *at == '"' ? at : NULL;
}

static inline Text between(const uint8_t *at, const uint8_t *end) { return (Text){.at = at, .length = (uint32_t)(end - at)}; }

/* Moves behind a literal, if it stands there. */
#define PASSES(at, end, literal) \
    ((size_t)((end) - (at)) >= sizeof(literal) - 1 && memcmp((at), (literal), sizeof(literal) - 1) == 0 && ((at) += sizeof(literal) - 1, true))

/* The order of `{"eventVersion":..,"userIdentity":{"type":..,..},"eventTime":..,"eventSource":..,"eventName":..`. */
static inline SKIM_FAST bool usual_order(const uint8_t *record, const uint8_t *first_closing, const uint8_t *end, Event *event) {
    const uint8_t *at = record, *stop;
    if (!PASSES(at, end, "{\"eventVersion\":\"") || (at = plain_end(at, end)) == NULL || !PASSES(at, end, "\",\"userIdentity\":{\"type\":\"") ||
        (stop = plain_end(at, end)) == NULL) {
        return false;
    }
    event->kind = between(at, stop);
    at = first_closing;
    if (!PASSES(at, end, "},\"eventTime\":\"") || (at = plain_end(at, end)) == NULL || !PASSES(at, end, "\",\"eventSource\":\"") ||
        (stop = plain_end(at, end)) == NULL) {
        return false;
    }
    event->source = between(at, stop);
    at = stop;
    if (!PASSES(at, end, "\",\"eventName\":\"") || (stop = plain_end(at, end)) == NULL) {
        return false;
    }
    event->name = between(at, stop);
    return true;
}

/* Behind the closing quote of a string, of which `at` is the first byte. */
static SKIM_FAST const uint8_t *behind_string(const uint8_t *at, const uint8_t *end) {
    while (*(at = quote_or_backslash(at, end)) == '\\') {
        at += 2;
    }
    return at + 1;
}

/* The comma or bracket that follows a value. */
static SKIM_FAST const uint8_t *behind_value(const uint8_t *at, const uint8_t *end) {
    for (int depth = 0;;) {
        switch (*at++) {
        case '"':
            at = behind_string(at, end);
            break;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            depth--;
            break;
        default:
            break;
        }
        if (depth == 0 && (*at == ',' || *at == '}' || *at == ']')) {
            return at;
        }
    }
}

typedef struct {
    Text name; /* absent where it has an escape */
    const uint8_t *value;
} Member;

/* The next member of an object; `at` is its opening bracket, or what follows the member before. False when there is none. */
static SKIM_FAST bool next_member(const uint8_t **at, const uint8_t *end, Member *member) {
    const uint8_t *name = *at + 1; /* its quote, or the closing bracket of an object that is empty */
    if (**at == '}' || *name == '}') {
        return false;
    }
    name++;
    const uint8_t *stop = plain_end(name, end);
    member->name = stop == NULL ? (Text){0} : between(name, stop);
    member->value = behind_string(name, end) + 1;
    *at = behind_value(member->value, end);
    return true;
}

#define IS(text, literal) ((text).length == sizeof(literal) - 1 && memcmp((text).at, (literal), sizeof(literal) - 1) == 0)

/* A value as text: absent if it is no string. False where it has an escape. */
static SKIM_FAST bool text_of(const uint8_t *value, const uint8_t *end, Text *text) {
    *text = (Text){0};
    if (*value != '"') {
        return true;
    }
    const uint8_t *stop = plain_end(value + 1, end);
    if (stop == NULL) {
        return false;
    }
    *text = between(value + 1, stop);
    return true;
}

static SKIM_FAST bool type_of(const uint8_t *identity, const uint8_t *end, Text *kind) {
    *kind = (Text){0};
    if (*identity != '{') {
        return true;
    }
    Member member;
    while (next_member(&identity, end, &member)) {
        if (member.name.at == NULL) {
            return false;
        }
        if (IS(member.name, "type")) {
            return text_of(member.value, end, kind);
        }
    }
    return true;
}

static SKIM_FAST bool any_order(const uint8_t *record, const uint8_t *end, Event *event) {
    const uint8_t *at = record;
    bool has_source = false, has_name = false, has_identity = false;
    Member member;
    *event = (Event){0};
    while (!(has_source && has_name && has_identity) && next_member(&at, end, &member)) {
        if (member.name.at == NULL) {
            return false;
        }
        if (!has_source && IS(member.name, "eventSource")) {
            has_source = text_of(member.value, end, &event->source);
            if (!has_source) {
                return false;
            }
        } else if (!has_name && IS(member.name, "eventName")) {
            has_name = text_of(member.value, end, &event->name);
            if (!has_name) {
                return false;
            }
        } else if (!has_identity && IS(member.name, "userIdentity")) {
            has_identity = type_of(member.value, end, &event->kind);
            if (!has_identity) {
                return false;
            }
        }
    }
    return event->name.at != NULL;
}

SKIM_FAST bool record_is_dull(const Dull *dull, const uint8_t *record, const uint8_t *first_closing, const uint8_t *end) {
    Event event;
    return (usual_order(record, first_closing, end, &event) || any_order(record, end, &event)) && dull_has(dull, &event);
}
