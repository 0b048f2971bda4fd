/* The three members of a record by which it is judged. */
#ifndef TRAILMEND_SKIM_RECORD_H
#define TRAILMEND_SKIM_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "dull.h"

/* Whether a record is known to be wanted by nobody. It is an object of valid JSON without white space, from its opening to behind its closing
 * bracket, with TEXT_MARGIN bytes before it; `first_closing` is the bracket that closes its first member that is an object or list (its own, if none is). */
bool record_is_dull(const Dull *dull, const uint8_t *record, const uint8_t *first_closing, const uint8_t *end);
#endif
