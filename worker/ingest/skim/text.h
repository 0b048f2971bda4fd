/* One pass over the text of a CloudTrail object: is it whole, and which of its records may somebody want? */
#ifndef TRAILMEND_SKIM_TEXT_H
#define TRAILMEND_SKIM_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "dull.h"

typedef struct {
    size_t number; /* from 1 */
    size_t begin, end;
} Item;

/* What a pass found: how many records there are, and those that are not known to be dull. Whoever made it frees `items`. */
typedef struct {
    size_t records;
    size_t count, room;
    Item *items;
} Found;

typedef enum {
    SKIM_DONE,
    SKIM_NOT_PLAIN, /* broken, or not written in the one plain way that is proved here */
    SKIM_TOO_MANY,  /* more than `most` items */
    SKIM_NO_MEMORY,
} Outcome;

/* Call only where `processor_has_what_it_takes`. */
Outcome skim_text(const uint8_t *text, size_t size, const Dull *dull, size_t most, Found *found);
#endif
