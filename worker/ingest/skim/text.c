/* Proves that a text is JSON, whole and sound, without building anything of it.
 *
 * Plain is `{"Records":[{..},{..}]}` without white space but at its end, as AWS writes it: valid JSON in valid UTF-8, records that are objects, nested
 * no deeper than 62, numbers of ordinary length, no surrogate without its partner. Of such a text, and of no other, the answer is SKIM_DONE: whatever is
 * unusual, broken or not is left to a reader that is slower and takes everything.
 *
 * The text goes by in chunks of 4 KB, each turned into masks of a bit a byte, so that one instruction judges 64 bytes or 256:
 * what is inside strings, then what stands outside them, then the brackets one by one with a stack of bits, then what may follow what. A grammar over
 * neighbours is enough because no white space stands between them. Every mask that looks back keeps the last word of the chunk before. */
#include "text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "masks.h"
#include "record.h"
#include "utf8.h"

#define HEAD "{\"Records\":["
#define LEAST_SIZE 64 /* what is shorter holds no record of anybody's, and is parsed as fast */
#define MOST_BYTES UINT32_MAX /* positions of records are kept in 32 bits, which is faster by a fortieth */
#define MOST_CARRIED 4096 /* members that are objects or lists, of a record that is not over */
/* A number of so many characters, so many of them its exponent's, fits 64 bits or a double: no reader thinks differently of it. */
#define MOST_CHARACTERS 18
#define MOST_EXPONENT 2

/* The stack of open brackets, the innermost lowest: 1 for an object, 0 for a list, above them a 1. */
typedef uint64_t Stack;
#define OUTSIDE ((Stack)1)
#define IN_TEXT ((Stack)3) /* 1, object */
#define IN_RECORD ((Stack)0xd) /* 1, object, list, object */

/* A mask with, as its first word, the last of the chunk before. */
typedef uint64_t Looked[1 + SKIM_BLOCKS];

typedef struct {
    const uint8_t *text;
    size_t size;
    size_t base;          /* of the chunk at hand */
    size_t length;        /* of it; less than a chunk for the last alone */
    const uint8_t *chunk; /* its bytes, followed by spaces up to a whole chunk */

    Kinds kinds;
    Mask inside;       /* of strings, with their opening and without their closing quotes */
    Mask opening;      /* quotes */
    Mask closing;      /* quotes */
    Mask comma, colon; /* this and all that follows: outside strings */
    Mask bracket;
    Mask closed;       /* closing brackets */
    Mask turns;        /* where an object begins or ends inside a list, or a list inside an object */
    Mask in_object;    /* from its opening to before its closing bracket, and not in a list within */
    Mask key;          /* opening quotes of names */
    Mask first;        /* first characters of numbers and words */
    Looked opened;     /* opening brackets */
    Looked bare;       /* characters of numbers and words */
    Looked before_key, before_value; /* what a name, what a value must follow */
    Looked key_end;    /* closing quotes of names */
    Looked value_end;  /* last characters of values */

    bool in_string, object; /* how the chunk before ended */
    uint64_t escaped;       /* 1 if a backslash was its end */
    unsigned char carry;
    Stack stack;
    size_t low_surrogate; /* where one is due, because a high one and another \u came before */
    bool is_ascii;

    size_t brackets;
    uint16_t at[SKIM_CHUNK + 4];

    /* Where records begin and end, by turns, and so the objects and lists that are their members, of which `had` come before an edge. */
    size_t edges, members;
    uint32_t edge[SKIM_CHUNK + 2], had[SKIM_CHUNK + 2];
    uint32_t member[MOST_CARRIED + SKIM_CHUNK + 1];
    size_t next; /* where the next record must begin */
    uint8_t last[SKIM_CHUNK];
} Pass;

static inline uint64_t before(const Looked mask, int i) { return mask[i + 1] << 1 | mask[i] >> 63; }

/* Each bit is the parity of the bits up to it. */
static inline SKIM_FAST uint64_t parity_up_to(uint64_t word) {
    word ^= word << 1;
    word ^= word << 2;
    word ^= word << 4;
    word ^= word << 8;
    word ^= word << 16;
    return word ^ word << 32;
}

/* The same of a mask, whose words before have this parity. Answers the parity of all. */
static inline SKIM_FAST bool parities(const Mask bits, Mask parity, bool before) {
    for (int i = 0; i < SKIM_BLOCKS; i++) {
        parity[i] = parity_up_to(bits[i]);
    }
    const uint64_t words = parity_up_to(highest_bits(parity)); /* a word's highest bit is its own parity */
    invert(parity, words << 1 ^ (before ? UINT64_MAX : 0));
    return (words >> 63) ^ before;
}

static inline bool is_digit(uint8_t byte) { return (uint8_t)(byte - '0') < 10; }

static int hex_digit(uint8_t byte) {
    if (is_digit(byte)) {
        return byte - '0';
    }
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* Whether the four bytes after \u are hexadecimal, and no surrogate without its partner. `at` is the u's. */
static bool is_sound_unicode(Pass *pass, size_t at) {
    int unit = 0;
    if (pass->size - at <= 6) {
        return false;
    }
    for (size_t i = 1; i <= 4; i++) {
        const int digit = hex_digit(pass->text[at + i]);
        if (digit < 0) {
            return false;
        }
        unit = unit << 4 | digit;
    }
    const bool is_due = pass->low_surrogate == at, is_low = unit >= 0xDC00 && unit <= 0xDFFF;
    if (unit >= 0xD800 && unit <= 0xDBFF) {
        pass->low_surrogate = at + 6;
        return !is_due && pass->text[at + 5] == '\\' && pass->text[at + 6] == 'u';
    }
    return is_due == is_low;
}

/* Whether an escape is one of JSON's; `at` is what follows the backslash. */
static bool is_sound_escape(Pass *pass, size_t at) {
    if (at >= pass->size) {
        return false;
    }
    switch (pass->text[at]) {
    case 'u':
        return is_sound_unicode(pass, at);
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return true;
    default:
        return false;
    }
}

/* Takes escaped quotes out, and looks at every escape. */
static SKIM_FAST bool unescape(Pass *pass) {
    Kinds *kinds = &pass->kinds;
    if (!kinds->has_backslash) {
        memset(kinds->backslash, 0, sizeof kinds->backslash);
    }
    for (size_t i = 0; i < SKIM_BLOCKS; i++) {
        uint64_t escaped = pass->escaped;
        pass->escaped = 0;
        for (uint64_t left = kinds->backslash[i]; left != 0; left &= left - 1) {
            const unsigned at = lowest_bit(left);
            if (escaped >> at & 1) {
                continue; /* the second of two */
            }
            if (at == SKIM_BLOCK - 1) {
                pass->escaped = 1;
            } else {
                escaped |= UINT64_C(2) << at;
            }
            if (!is_sound_escape(pass, pass->base + SKIM_BLOCK * i + at + 1)) {
                return false;
            }
        }
        kinds->quote[i] &= ~escaped;
    }
    return true;
}

static inline SKIM_FAST bool find_strings(Pass *pass) {
    if ((pass->kinds.has_backslash || pass->escaped) && !unescape(pass)) {
        return false;
    }
    pass->in_string = parities(pass->kinds.quote, pass->inside, pass->in_string);
    return true;
}

static inline SKIM_FAST void sort_what_is_outside(Pass *pass) {
    const Kinds *kinds = &pass->kinds;
    for (int i = 0; i < SKIM_BLOCKS; i++) {
        const uint64_t quote = kinds->quote[i], inside = pass->inside[i], second_bit = kinds->second_bit[i];
        const uint64_t outside = ~(inside | quote), separator = kinds->separator[i] & outside, bracket = kinds->bracket[i] & outside;
        pass->opening[i] = quote & inside;
        pass->closing[i] = quote & ~inside;
        pass->comma[i] = separator & ~second_bit;
        pass->colon[i] = separator & second_bit;
        pass->bracket[i] = bracket;
        pass->opened[i + 1] = bracket & second_bit;
        pass->closed[i] = bracket & ~second_bit;
        pass->bare[i + 1] = outside & ~(separator | bracket);
        pass->turns[i] = 0;
    }
    for (size_t i = pass->length / SKIM_BLOCK; i < SKIM_BLOCKS; i++) { /* what follows the text is nothing */
        const size_t first = SKIM_BLOCK * i;
        pass->bare[i + 1] &= first < pass->length ? (UINT64_C(1) << (pass->length - first)) - 1 : 0;
    }
}

static inline SKIM_FAST void list_brackets(Pass *pass) {
    uint16_t *at = pass->at;
    for (uint64_t used = words_in_use(pass->bracket); used != 0; used &= used - 1) {
        const int i = __builtin_ctzll(used);
        const uint16_t first = (uint16_t)(SKIM_BLOCK * i);
        uint64_t bracket = pass->bracket[i];
        const int count = __builtin_popcountll(bracket);
        for (int k = 0; k < 3; k++) { /* there are seldom more; those too many are written over */
            at[k] = (uint16_t)(first + lowest_bit(bracket));
            bracket &= bracket - 1;
        }
        for (int k = 3; k < count; k++) {
            at[k] = (uint16_t)(first + lowest_bit(bracket));
            bracket &= bracket - 1;
        }
        at += count;
    }
    pass->brackets = (size_t)(at - pass->at);
}

/* Opens and closes, without a branch: notes where records and their members begin and end, and where objects turn into lists and back. The text's
 * last bracket is its last byte, and alone leads outside. */
static inline SKIM_FAST bool match_brackets(Pass *pass) {
    const bool is_last = pass->base + pass->length == pass->size;
    if (is_last && (pass->brackets == 0 || pass->base + pass->at[pass->brackets - 1] != pass->size - 1)) {
        return false;
    }
    const size_t brackets = pass->brackets - is_last;
    Stack stack = pass->stack, extreme = 0;
    uint64_t mismatched = 0;
    size_t edges = pass->edges, members = pass->members;
    for (size_t k = 0; k < brackets; k++) {
        const size_t at = pass->at[k], position = pass->base + at;
        const uint64_t byte = pass->chunk[at], is_object = byte >> 5 & 1, opens = byte >> 1 & 1;
        const Stack was = stack, down = stack << 1 | is_object, up = stack >> 1;
        stack = up ^ ((up ^ down) & (0 - opens)); /* down if it opens */
        const Stack inner = was > stack ? was : stack, outer = was > stack ? stack : was;
        mismatched |= inner ^ is_object;
        extreme |= inner | (stack - IN_TEXT); /* its highest bit: nested too deep, or outside */
        pass->edge[edges] = (uint32_t)position;
        pass->had[edges] = (uint32_t)members;
        edges += inner == IN_RECORD;
        pass->member[members] = (uint32_t)position;
        members += outer == IN_RECORD;
        pass->turns[at / SKIM_BLOCK] |= ((was ^ stack) & 1) << at % SKIM_BLOCK;
    }
    pass->stack = stack;
    pass->edges = edges;
    pass->members = members;
    return (mismatched & 1) == 0 && extreme >> 63 == 0 && (!is_last || stack == IN_TEXT);
}

static inline SKIM_FAST void tell_names_from_values(Pass *pass) {
    pass->object = parities(pass->turns, pass->in_object, pass->object);
    for (int i = 0; i < SKIM_BLOCKS; i++) {
        const uint64_t in_object = pass->in_object[i], next = pass->comma[i] | pass->opened[i + 1];
        pass->before_key[i + 1] = next & in_object;
        pass->before_value[i + 1] = (next & ~in_object) | pass->colon[i];
    }
    for (int i = 0; i < SKIM_BLOCKS; i++) {
        pass->key[i] = pass->opening[i] & before(pass->before_key, i);
    }
    Mask sum;
    unsigned char carry = pass->carry;
    for (int i = 0; i < SKIM_BLOCKS; i++) { /* one added at a string's opening quote carries through to its closing one */
        sum[i] = sum_of(pass->inside[i], pass->key[i], &carry);
    }
    pass->carry = carry;
    for (int i = 0; i < SKIM_BLOCKS; i++) {
        const uint64_t key_end = sum[i] & pass->closing[i];
        pass->key_end[i + 1] = key_end;
        pass->value_end[i + 1] = (pass->closing[i] & ~key_end) | pass->closed[i] | pass->bare[i + 1];
    }
}

/* Whether everything outside strings, and every string, follows what it may follow. */
static inline SKIM_FAST bool is_in_order(Pass *pass) {
    uint64_t wrong = 0;
    for (int i = 0; i < SKIM_BLOCKS; i++) {
        const uint64_t after_value = before(pass->value_end, i), due = before(pass->before_value, i), after_bare = before(pass->bare, i);
        const uint64_t bare = pass->bare[i + 1];
        wrong |= pass->colon[i] & ~before(pass->key_end, i);
        wrong |= pass->comma[i] & ~after_value;
        wrong |= pass->closed[i] & ~(after_value | before(pass->opened, i));
        wrong |= pass->opening[i] & ~(pass->key[i] | due);
        wrong |= pass->opened[i + 1] & ~due;
        wrong |= bare & ~(due | after_bare);
        pass->first[i] = bare & ~after_bare;
    }
    return wrong == 0;
}

static inline bool is_behind_value(uint8_t byte) { return byte == ',' || byte == ']' || byte == '}'; }

/* Behind a run of digits; NULL if there is none. */
static const uint8_t *behind_digits(const uint8_t *at) {
    if (!is_digit(*at)) {
        return NULL;
    }
    do {
        at++;
    } while (is_digit(*at));
    return at;
}

/* Whether a number of ordinary length stands here. The text ends in brackets, so every run of digits does. */
static bool is_number(const uint8_t *at) {
    const uint8_t *first = at;
    at += *at == '-';
    at = *at == '0' ? at + 1 : behind_digits(at);
    if (at != NULL && *at == '.') {
        at = behind_digits(at + 1);
    }
    if (at != NULL && (*at | 0x20) == 'e') {
        at++;
        const uint8_t *exponent = at + (*at == '+' || *at == '-');
        at = behind_digits(exponent);
        if (at != NULL && at - exponent > MOST_EXPONENT) {
            return false;
        }
    }
    return at != NULL && is_behind_value(*at) && at - first <= MOST_CHARACTERS;
}

/* Whether true, false, null or such a number stands here. */
static inline bool is_bare_value(const uint8_t *at, const uint8_t *end) {
    if (end - at >= 6) {
        if (memcmp(at, "true", 4) == 0 || memcmp(at, "null", 4) == 0) {
            return is_behind_value(at[4]);
        }
        if (memcmp(at, "false", 5) == 0) {
            return is_behind_value(at[5]);
        }
    }
    return is_number(at);
}

static inline SKIM_FAST bool bare_values_are_sound(const Pass *pass) {
    for (uint64_t used = words_in_use(pass->first); used != 0; used &= used - 1) {
        const int i = __builtin_ctzll(used);
        for (uint64_t first = pass->first[i]; first != 0; first &= first - 1) {
            if (!is_bare_value(pass->text + pass->base + SKIM_BLOCK * (size_t)i + (size_t)__builtin_ctzll(first), pass->text + pass->size)) {
                return false;
            }
        }
    }
    return true;
}

static bool keep(Found *found, Item item) {
    if (found->count == found->room) {
        const size_t room = found->room == 0 ? 16 : found->room * 2;
        Item *items = realloc(found->items, room * sizeof *items);
        if (items == NULL) {
            return false;
        }
        found->items = items;
        found->room = room;
    }
    found->items[found->count++] = item;
    return true;
}

/* Judges the records that are over, which must follow one another as the list's only items. */
static inline SKIM_FAST Outcome judge_records(Pass *pass, const Dull *dull, size_t most, Found *found) {
    size_t i = 0;
    for (; i + 1 < pass->edges; i += 2) {
        const Record record = {
            .text = pass->text,
            .begin = pass->edge[i],
            .end = (size_t)pass->edge[i + 1] + 1,
            .brackets = pass->member + pass->had[i],
            .count = pass->had[i + 1] - pass->had[i],
        };
        if (record.begin != pass->next) {
            return SKIM_NOT_PLAIN;
        }
        pass->next = record.end + 1;
        found->records++;
        if (record_is_dull(dull, &record)) {
            continue;
        }
        if (found->count == most) {
            return SKIM_TOO_MANY;
        }
        if (!keep(found, (Item){.number = found->records, .begin = record.begin, .end = record.end})) {
            return SKIM_NO_MEMORY;
        }
    }
    /* One may not be over. */
    const size_t done = i < pass->edges ? pass->had[i] : pass->members;
    pass->edge[0] = pass->edge[i];
    pass->had[0] = 0;
    pass->edges -= i;
    pass->members -= done;
    if (pass->members > MOST_CARRIED) {
        return SKIM_NOT_PLAIN;
    }
    memmove(pass->member, pass->member + done, pass->members * sizeof *pass->member);
    return SKIM_DONE;
}

static inline void carry_over(Looked mask) { mask[0] = mask[SKIM_BLOCKS]; }

static SKIM_FAST Outcome skim_chunk(Pass *pass, const Dull *dull, size_t most, Found *found) {
    sort_bytes(pass->chunk, &pass->kinds);
    pass->is_ascii &= pass->kinds.is_ascii;
    if (pass->kinds.has_control || !find_strings(pass)) {
        return SKIM_NOT_PLAIN;
    }
    sort_what_is_outside(pass);
    list_brackets(pass);
    if (!match_brackets(pass)) {
        return SKIM_NOT_PLAIN;
    }
    tell_names_from_values(pass);
    if (!is_in_order(pass) || !bare_values_are_sound(pass)) {
        return SKIM_NOT_PLAIN;
    }
    carry_over(pass->opened);
    carry_over(pass->bare);
    carry_over(pass->before_key);
    carry_over(pass->before_value);
    carry_over(pass->key_end);
    carry_over(pass->value_end);
    return judge_records(pass, dull, most, found);
}

static SKIM_FAST Outcome skim(Pass *pass, const Dull *dull, size_t most, Found *found) {
    pass->opened[0] = pass->bare[0] = pass->before_key[0] = pass->key_end[0] = pass->value_end[0] = 0;
    pass->before_value[0] = UINT64_C(1) << 63; /* the text is a value */
    pass->in_string = false;
    pass->escaped = pass->carry = 0;
    pass->object = true; /* below the stack stands a 1 */
    pass->stack = OUTSIDE;
    pass->low_surrogate = 0;
    pass->is_ascii = true;
    pass->edges = pass->members = 0;
    pass->next = sizeof HEAD - 1;
    for (pass->base = 0; pass->base < pass->size; pass->base += SKIM_CHUNK) {
        pass->chunk = pass->text + pass->base;
        pass->length = pass->size - pass->base;
        if (pass->length >= SKIM_CHUNK) {
            pass->length = SKIM_CHUNK;
        } else {
            memset(pass->last, ' ', sizeof pass->last);
            memcpy(pass->last, pass->chunk, pass->length);
            pass->chunk = pass->last;
        }
        const Outcome skimmed = skim_chunk(pass, dull, most, found);
        if (skimmed != SKIM_DONE) {
            return skimmed;
        }
    }
    /* The last record is followed by the list's and the object's closing brackets, and they by nothing. */
    const bool is_whole = pass->edges == 0 && found->records != 0 && pass->next == pass->size - 1;
    return is_whole && (pass->is_ascii || is_utf8(pass->text, pass->size)) ? SKIM_DONE : SKIM_NOT_PLAIN;
}

Outcome skim_text(const uint8_t *text, size_t size, const Dull *dull, size_t most, Found *found) {
    while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == '\r' || text[size - 1] == ' ' || text[size - 1] == '\t')) {
        size--; /* a file may end in a line's end */
    }
    if (size < LEAST_SIZE || size > MOST_BYTES || memcmp(text, HEAD, sizeof HEAD - 1) != 0 || text[size - 2] != ']' || text[size - 1] != '}') {
        return SKIM_NOT_PLAIN;
    }
    Pass *pass = malloc(sizeof *pass);
    if (pass == NULL) {
        return SKIM_NO_MEMORY;
    }
    pass->text = text;
    pass->size = size;
    const Outcome skimmed = skim(pass, dull, most, found);
    free(pass);
    return skimmed;
}
