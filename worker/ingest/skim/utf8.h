#ifndef TRAILMEND_SKIM_UTF8_H
#define TRAILMEND_SKIM_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether a text is UTF-8 by RFC 3629: shortest forms only, no surrogates, nothing beyond U+10FFFF. */
bool is_utf8(const uint8_t *text, size_t size);
#endif
