/* UTF-8 by the table of RFC 3629, section 4. Long runs of ASCII, which logs mostly are, go by eight bytes at a time. */
#include "utf8.h"

#include <string.h>

static inline bool is_tail(uint8_t byte) { return (byte & 0xC0) == 0x80; }

/* How many bytes the character has that begins here, of which `left` can be read; 0 if it is none. */
static size_t character(const uint8_t *at, size_t left) {
    const uint8_t lead = at[0];
    if (lead < 0x80) {
        return 1;
    }
    if (lead < 0xC2 || lead > 0xF4) {
        return 0;
    }
    const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (left < length) {
        return 0;
    }
    const uint8_t least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80, most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (at[1] < least || at[1] > most) {
        return 0;
    }
    for (size_t i = 2; i < length; i++) {
        if (!is_tail(at[i])) {
            return 0;
        }
    }
    return length;
}

bool is_utf8(const uint8_t *text, size_t size) {
    for (size_t i = 0; i < size;) {
        uint64_t eight;
        if (size - i >= sizeof eight) {
            memcpy(&eight, text + i, sizeof eight);
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                i += sizeof eight;
                continue;
            }
        }
        const size_t length = character(text + i, size - i);
        if (length == 0) {
            return false;
        }
        i += length;
    }
    return true;
}
