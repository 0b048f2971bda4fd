/* An open hash table over copies of the texts. It only grows: whoever fills it begins a new one when it is large. */
#include "dull.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS 4096
#define MOST_PROBES 16 /* so that texts chosen to fall together cost no more than this */

typedef struct Entry {
    uint64_t hash;
    Event event;
} Entry;

struct Dull {
    size_t used;
    size_t slots; /* a power of two */
    Entry **entries;
};

static inline uint64_t eight_at(const uint8_t *at) {
    uint64_t bytes;
    memcpy(&bytes, at, sizeof bytes);
    return bytes;
}

/* The last bytes of a text, at most eight; those before a shorter one are shifted out. */
static inline uint64_t tail_of(Text text) {
    if (text.length == 0) {
        return 0;
    }
    const uint64_t bytes = eight_at(text.at + text.length - 8);
    return text.length < 8 ? bytes >> (64 - 8 * text.length) : bytes;
}

/* Of a text its first and last bytes and its length, because names of AWS seldom differ in the middle alone; products that do not wait for one another. */
static inline uint64_t product(Text text, uint64_t odd, uint64_t other_odd) {
    if (text.at == NULL) {
        return odd;
    }
    const uint64_t head = text.length < 8 ? 0 : eight_at(text.at);
    return (head + text.length) * odd + tail_of(text) * other_odd;
}

static inline uint64_t hash_of(const Event *event) {
    const uint64_t sum = product(event->source, UINT64_C(0x9E3779B97F4A7C15), UINT64_C(0xD6E8FEB86659FD93)) +
                         product(event->name, UINT64_C(0xA0761D6478BD642F), UINT64_C(0xE7037ED1A0B428DB)) +
                         product(event->kind, UINT64_C(0x8EBC6AF09C88C6E3), UINT64_C(0x589965CC75374CC3));
    const uint64_t hash = (sum ^ sum >> 32) * UINT64_C(0x9E3779B97F4A7C15); /* the slot is in the low bits, which every byte must reach */
    return hash ^ hash >> 32;
}

static inline bool same_text(Text one, Text other) {
    if (one.length != other.length || (one.at == NULL) != (other.at == NULL)) {
        return false;
    }
    return one.at == NULL || memcmp(one.at, other.at, one.length) == 0;
}

static inline bool same_event(const Event *one, const Event *other) {
    return same_text(one->name, other->name) && same_text(one->source, other->source) && same_text(one->kind, other->kind);
}

bool dull_has(const Dull *dull, const Event *event) {
    const uint64_t hash = hash_of(event);
    for (size_t probe = 0; probe < MOST_PROBES; probe++) {
        const Entry *entry = dull->entries[(hash + probe) & (dull->slots - 1)];
        if (entry == NULL) {
            return false;
        }
        if (entry->hash == hash && same_event(&entry->event, event)) {
            return true;
        }
    }
    return false;
}

static bool settle(Entry **entries, size_t slots, Entry *entry) {
    for (size_t probe = 0; probe < MOST_PROBES; probe++) {
        Entry **slot = &entries[(entry->hash + probe) & (slots - 1)];
        if (*slot == NULL) {
            *slot = entry;
            return true;
        }
    }
    return false;
}

static bool grow(Dull *dull) {
    const size_t slots = dull->slots * 2;
    Entry **entries = calloc(slots, sizeof *entries);
    if (entries == NULL) {
        return false;
    }
    size_t used = 0;
    for (size_t i = 0; i < dull->slots; i++) {
        if (dull->entries[i] != NULL && settle(entries, slots, dull->entries[i])) {
            used++;
        } else {
            free(dull->entries[i]);
        }
    }
    free(dull->entries);
    *dull = (Dull){.used = used, .slots = slots, .entries = entries};
    return true;
}

static Text copied(uint8_t **room, Text text) {
    if (text.at == NULL) {
        return text;
    }
    const Text copy = {.at = *room, .length = text.length};
    memcpy(*room, text.at, text.length);
    *room += text.length;
    return copy;
}

bool dull_add(Dull *dull, const Event *event) {
    const size_t bytes = (size_t)event->source.length + event->name.length + event->kind.length;
    if (bytes > DULL_LONGEST || dull_has(dull, event)) {
        return true;
    }
    if (dull->used * 2 >= dull->slots && !grow(dull)) {
        return false;
    }
    Entry *entry = calloc(1, sizeof *entry + TEXT_MARGIN + bytes);
    if (entry == NULL) {
        return false;
    }
    uint8_t *room = (uint8_t *)(entry + 1) + TEXT_MARGIN;
    entry->hash = hash_of(event);
    entry->event.source = copied(&room, event->source);
    entry->event.name = copied(&room, event->name);
    entry->event.kind = copied(&room, event->kind);
    if (settle(dull->entries, dull->slots, entry)) {
        dull->used++;
    } else {
        free(entry);
    }
    return true;
}

Dull *dull_new(void) {
    Dull *dull = malloc(sizeof *dull);
    Entry **entries = calloc(FIRST_SLOTS, sizeof *entries);
    if (dull == NULL || entries == NULL) {
        free(dull);
        free(entries);
        return NULL;
    }
    *dull = (Dull){.used = 0, .slots = FIRST_SLOTS, .entries = entries};
    return dull;
}

void dull_free(Dull *dull) {
    for (size_t i = 0; i < dull->slots; i++) {
        free(dull->entries[i]);
    }
    free(dull->entries);
    free(dull);
}
