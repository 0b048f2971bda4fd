/* What nobody wants: a set of (eventSource, eventName, userIdentity.type), each as its bytes in UTF-8. */
#ifndef TRAILMEND_SKIM_DULL_H
#define TRAILMEND_SKIM_DULL_H

#include <stdbool.h>
#include <stdint.h>

#define DULL_LONGEST 1024 /* bytes of an event's three texts together */
#define TEXT_MARGIN 8

/* Some text. So many bytes before it can be read. `at` is NULL for what is absent or no string. */
typedef struct {
    const uint8_t *at;
    uint32_t length;
} Text;

typedef struct {
    Text source, name, kind;
} Event;

typedef struct Dull Dull;

Dull *dull_new(void); /* NULL without memory */
void dull_free(Dull *dull);
bool dull_has(const Dull *dull, const Event *event);
/* Keeps copies. False without memory. What is too long, or falls where too many others do, is not kept: it is judged anew each time. */
bool dull_add(Dull *dull, const Event *event);
#endif
