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
static inline SKIM_FAST bool usual_order(const Record *record, Event *event) {
    const uint8_t *at = record->text + record->begin, *const end = record->text + record->end, *stop;
    if (record->count == 0 || !PASSES(at, end, "{\"eventVersion\":\"") || (at = plain_end(at, end)) == NULL ||
        !PASSES(at, end, "\",\"userIdentity\":{\"type\":\"") || (stop = plain_end(at, end)) == NULL) {
        return false;
    }
    event->kind = between(at, stop);
    at = record->text + record->brackets[1];
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
static inline SKIM_FAST const uint8_t *behind_string(const uint8_t *at, const uint8_t *end) {
    while (*(at = quote_or_backslash(at, end)) == '\\') {
        at += 2;
    }
    return at + 1;
}

/* Behind a string, number or word. */
static inline SKIM_FAST const uint8_t *behind_plain_value(const uint8_t *at, const uint8_t *end) {
    if (*at == '"') {
        return behind_string(at + 1, end);
    }
    while (*at != ',' && *at != '}' && *at != ']') {
        at++;
    }
    return at;
}

static inline bool is_opening(uint8_t byte) { return byte == '{' || byte == '['; }

/* Behind an object or list. */
static SKIM_FAST const uint8_t *behind_brackets(const uint8_t *at, const uint8_t *end) {
    int depth = 0;
    do {
        const uint8_t byte = *at++;
        if (byte == '"') {
            at = behind_string(at, end);
        } else if (is_opening(byte)) {
            depth++;
        } else if (byte == '}' || byte == ']') {
            depth--;
        }
    } while (depth != 0);
    return at;
}

#define IS(text, literal) ((text).length == sizeof(literal) - 1 && memcmp((text).at, (literal), sizeof(literal) - 1) == 0)

/* The name of a member, of which `at` is the opening quote, and its value. False where the name has an escape. */
static inline SKIM_FAST bool named(const uint8_t *at, const uint8_t *end, Text *name, const uint8_t **value) {
    const uint8_t *stop = plain_end(at + 1, end);
    if (stop == NULL) {
        return false;
    }
    *name = between(at + 1, stop);
    *value = stop + 2;
    return true;
}

/* A value as text: absent if it is no string. False where it has an escape. */
static inline SKIM_FAST bool text_of(const uint8_t *value, const uint8_t *end, Text *text) {
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

/* The type of an identity: absent if that is no object, has none, or none that is a string. False where an escape is in the way. */
static SKIM_FAST bool type_of(const uint8_t *identity, const uint8_t *end, Text *kind) {
    *kind = (Text){0};
    if (*identity != '{') {
        return true;
    }
    for (const uint8_t *at = identity; *at != '}' && at[1] != '}';) { /* at what stands before a member's name */
        Text name;
        const uint8_t *value;
        if (!named(at + 1, end, &name, &value)) {
            return false;
        }
        if (IS(name, "type")) {
            return text_of(value, end, kind);
        }
        at = is_opening(*value) ? behind_brackets(value, end) : behind_plain_value(value, end);
    }
    return true;
}

static SKIM_FAST bool any_order(const Record *record, Event *event) {
    const uint8_t *const end = record->text + record->end;
    const uint32_t *brackets = record->brackets;
    bool has_source = false, has_name = false, has_identity = false;
    *event = (Event){0};
    for (const uint8_t *at = record->text + record->begin; *at != '}' && at[1] != '}';) {
        Text name;
        const uint8_t *value;
        if (!named(at + 1, end, &name, &value)) {
            return false;
        }
        if (!has_source && IS(name, "eventSource")) {
            has_source = true;
            if (!text_of(value, end, &event->source)) {
                return false;
            }
        } else if (!has_name && IS(name, "eventName")) {
            has_name = true;
            if (!text_of(value, end, &event->name)) {
                return false;
            }
        } else if (!has_identity && IS(name, "userIdentity")) {
            has_identity = true;
            if (!type_of(value, end, &event->kind)) {
                return false;
            }
        }
        if (has_source && has_name && has_identity) {
            break;
        }
        if (is_opening(*value)) {
            at = record->text + brackets[1] + 1;
            brackets += 2;
        } else {
            at = behind_plain_value(value, end);
        }
    }
    return event->name.at != NULL;
}

SKIM_FAST bool record_is_dull(const Dull *dull, const Record *record) {
    Event event;
    return (usual_order(record, &event) || any_order(record, &event)) && dull_has(dull, &event);
}
