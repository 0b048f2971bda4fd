/* The three members of a record by which it is judged. */
#ifndef TRAILMEND_SKIM_RECORD_H
#define TRAILMEND_SKIM_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dull.h"

/* An object of valid JSON without white space, with TEXT_MARGIN bytes before it. */
typedef struct {
    const uint8_t *text;
    size_t begin, end;        /* from its opening to behind its closing bracket */
    const uint32_t *brackets; /* where its members that are objects or lists begin and end, by turns */
    size_t count;
} Record;

/* Whether it is known to be wanted by nobody. */
bool record_is_dull(const Dull *dull, const Record *record);
#endif
