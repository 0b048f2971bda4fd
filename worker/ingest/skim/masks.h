/* What stands where in a text, a bit for each byte: the only file that speaks to one kind of processor (AVX2).
 *
 * A chunk is 64 blocks of 64 bytes; a mask is 64 words, of which bit b of word w stands for byte 64 w + b of the chunk. */
#ifndef TRAILMEND_SKIM_MASKS_H
#define TRAILMEND_SKIM_MASKS_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Stands before every function that is called only where `processor_has_what_it_takes`. */
#define SKIM_FAST __attribute__((target("avx2,bmi,popcnt")))

#define SKIM_BLOCK 64
#define SKIM_BLOCKS 64
#define SKIM_CHUNK (SKIM_BLOCK * SKIM_BLOCKS)

typedef uint64_t Mask[SKIM_BLOCKS];

typedef struct {
    Mask quote;
    Mask separator;    /* comma or colon */
    Mask bracket;      /* one of { } [ ] */
    Mask second_bit;   /* of the byte (0x02): tells a colon from a comma, and a bracket that opens from one that closes */
    Mask backslash;    /* written only where there is one */
    bool has_backslash;
    bool has_control;  /* a byte below 0x20 */
    bool is_ascii;
} Kinds;

static inline bool processor_has_what_it_takes(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("popcnt");
}

typedef uint32_t __attribute__((may_alias)) HalfWord;

static inline SKIM_FAST void put(uint64_t *word, __m256i low, __m256i high) {
    HalfWord *halves = (HalfWord *)word;
    halves[0] = (uint32_t)_mm256_movemask_epi8(low);
    halves[1] = (uint32_t)_mm256_movemask_epi8(high);
}

static inline SKIM_FAST __m256i bytes_at(const uint8_t *at) { return _mm256_loadu_si256((const __m256i *)at); }

/* The bytes that a table of 16 has under their own low four bits: an exact test for a set of bytes whose low halves all differ. */
static inline SKIM_FAST __m256i in_table(__m256i bytes, __m256i table) { return _mm256_cmpeq_epi8(bytes, _mm256_shuffle_epi8(table, bytes)); }

/* Whether there is a byte below 0x20. */
static inline SKIM_FAST bool has_control(const uint8_t *chunk) {
    const __m256i space = _mm256_set1_epi8(' ');
    __m256i least = space;
    for (int i = 0; i < SKIM_CHUNK; i += 32) {
        least = _mm256_min_epu8(least, bytes_at(chunk + i));
    }
    return _mm256_movemask_epi8(_mm256_cmpeq_epi8(least, space)) != -1;
}

/* Sorts the bytes of a chunk, all of which can be read. */
static inline SKIM_FAST void sort_bytes(const uint8_t *chunk, Kinds *kinds) {
    const __m256i quote = _mm256_set1_epi8('"'), backslash = _mm256_set1_epi8('\\'), space = _mm256_set1_epi8(' ');
    const __m256i separators = _mm256_broadcastsi128_si256(_mm_setr_epi8(-1, 0, 0, 0, 0, 0, 0, 0, 0, 0, ':', 0, ',', 0, 0, 0));
    /* With bit 0x20 set, which maps [ to { and ] to }, and no other byte to either. */
    const __m256i brackets = _mm256_broadcastsi128_si256(_mm_setr_epi8(-1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '{', 0, '}', 0, 0));
    __m256i least = space, backslashes = _mm256_setzero_si256(); /* as signed bytes: what is beyond ASCII is less than all others */
    for (int i = 0; i < SKIM_BLOCKS; i++) {
        const __m256i a = bytes_at(chunk + SKIM_BLOCK * i), b = bytes_at(chunk + SKIM_BLOCK * i + 32);
        __builtin_prefetch((const void *)((uintptr_t)chunk + SKIM_CHUNK + SKIM_BLOCK * (uintptr_t)i)); /* of the next chunk, if there is one */
        least = _mm256_min_epi8(least, _mm256_min_epi8(a, b));
        backslashes = _mm256_or_si256(backslashes, _mm256_or_si256(_mm256_cmpeq_epi8(a, backslash), _mm256_cmpeq_epi8(b, backslash)));
        put(&kinds->quote[i], _mm256_cmpeq_epi8(a, quote), _mm256_cmpeq_epi8(b, quote));
        put(&kinds->separator[i], in_table(a, separators), in_table(b, separators));
        put(&kinds->bracket[i], in_table(_mm256_or_si256(a, space), brackets), in_table(_mm256_or_si256(b, space), brackets));
        put(&kinds->second_bit[i], _mm256_slli_epi64(a, 6), _mm256_slli_epi64(b, 6));
    }
    kinds->is_ascii = _mm256_movemask_epi8(least) == 0;
    kinds->has_control = kinds->is_ascii ? _mm256_movemask_epi8(_mm256_cmpeq_epi8(least, space)) != -1 : has_control(chunk);
    kinds->has_backslash = _mm256_testz_si256(backslashes, backslashes) == 0;
    for (int i = 0; kinds->has_backslash && i < SKIM_BLOCKS; i++) {
        const __m256i a = bytes_at(chunk + SKIM_BLOCK * i), b = bytes_at(chunk + SKIM_BLOCK * i + 32);
        put(&kinds->backslash[i], _mm256_cmpeq_epi8(a, backslash), _mm256_cmpeq_epi8(b, backslash));
    }
}

/* The lowest bit that is set; 64 where none is. */
static inline SKIM_FAST unsigned lowest_bit(uint64_t word) { return (unsigned)_tzcnt_u64(word); }

static inline SKIM_FAST uint64_t sum_of(uint64_t one, uint64_t other, unsigned char *carry) {
    unsigned long long sum;
    *carry = _addcarry_u64(*carry, one, other, &sum);
    return sum;
}

/* Which words of a mask have a bit set, a bit for each. */
static inline SKIM_FAST uint64_t words_in_use(const Mask mask) {
    uint64_t used = 0;
    for (int i = 0; i < SKIM_BLOCKS; i += 4) {
        const __m256i empty = _mm256_cmpeq_epi64(_mm256_loadu_si256((const __m256i *)(mask + i)), _mm256_setzero_si256());
        used |= (uint64_t)(~_mm256_movemask_pd(_mm256_castsi256_pd(empty)) & 0xf) << i;
    }
    return used;
}

/* The highest bits of a mask's words, a bit for each. */
static inline SKIM_FAST uint64_t highest_bits(const Mask mask) {
    uint64_t bits = 0;
    for (int i = 0; i < SKIM_BLOCKS; i += 4) {
        const __m256i words = _mm256_loadu_si256((const __m256i *)(mask + i));
        bits |= (uint64_t)_mm256_movemask_pd(_mm256_castsi256_pd(words)) << i;
    }
    return bits;
}

/* Inverts words of a mask: those whose bits are set. */
static inline SKIM_FAST void invert(Mask mask, uint64_t which) {
    const __m256i lanes = _mm256_setr_epi64x(1, 2, 4, 8);
    for (int i = 0; i < SKIM_BLOCKS; i += 4) {
        const __m256i chosen = _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x((long long)(which >> i)), lanes), lanes);
        __m256i *words = (__m256i *)(mask + i);
        _mm256_storeu_si256(words, _mm256_xor_si256(_mm256_loadu_si256(words), chosen));
    }
}

/* The first quote or backslash at or after `at`; `end` where there is none. */
static inline SKIM_FAST const uint8_t *quote_or_backslash(const uint8_t *at, const uint8_t *end) {
    const __m256i quote = _mm256_set1_epi8('"'), backslash = _mm256_set1_epi8('\\');
    for (; end - at >= 32; at += 32) {
        const __m256i bytes = bytes_at(at);
        const uint32_t found = (uint32_t)_mm256_movemask_epi8(_mm256_or_si256(_mm256_cmpeq_epi8(bytes, quote), _mm256_cmpeq_epi8(bytes, backslash)));
        if (found != 0) {
            return at + __builtin_ctz(found);
        }
    }
    while (at < end && *at != '"' && *at != '\\') {
        at++;
    }
    return at;
}

#endif
