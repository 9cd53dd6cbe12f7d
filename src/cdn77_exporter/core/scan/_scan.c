/* Adds up the plain lines of a log file without making an object of any of them.
 *
 * This is the decoder's fast path, and it may be missing: whatever it does not take is left to Python (decode.py), which
 * knows all forms of a line and alone decides what is wrong with one. What is taken is added up by the bytes that stand
 * in it; what they mean as labels is looked up in Python, once for each different text.
 *
 * It is told what to read when it is made, from the table of measures: the fields, the cubes (by which labels sums are
 * kept, and of what), by which labels viewers are seen, and how streams and tracks are found in a path. So another
 * measure, or another field, is no change here.
 *
 * The invariants:
 * - A line that is not in every respect a form that is known here is left, and then it has changed nothing but what is
 *   remembered: entries that were made for it have no requests (a viewer no times), and are not given out.
 * - Known is: one flat object, blanks between its tokens or none; each field that is read at most once; a timestamp of
 *   the calendar from 1970 on with its offset from UTC; addresses without a zone, or none. What is surely malformed in
 *   an optional field is missing. Bytes that are no UTF-8 and halves of pairs may stand in any text: they are in the
 *   hands of whoever sends a request, and become replacement characters.
 * - Nothing reads behind the newline that ends a piece: no token holds a newline, and every loop stops at one.
 * - Everything is bounded and may fail (a full table, no memory): then a line is left, and nothing is lost.
 * - The texts of a log are anybody's. Tables are hashed with a secret of the process; the small memos in front of them
 *   are not, and can only miss.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define MOST_COUNT ((uint64_t)1 << 53) /* lines.MAX_COUNT */
#define MOST_SUM ((uint64_t)INT64_MAX) /* columns.MOST_SUM: sums end there */
#define MOST_TEXTS ((uint32_t)1 << 20)
#define MOST_TEXT 4096                   /* bytes of one that is remembered */
#define MOST_ARENA ((uint32_t)1 << 26)   /* bytes of all of them */
#define MOST_ROWS ((uint32_t)1 << 24)    /* of each other table, whatever is asked for */
#define MOST_MEMBERS 64                  /* of a line */
#define MOST_FIELDS 40                   /* that are read */
#define MOST_CUBES 64
#define MOST_COLUMNS 256 /* of a cube */
#define MOST_AUDIENCES 16
#define MOST_PIECES 16 /* path_pattern.MOST_PIECES */
#define MOST_BUCKETS 32 /* numbers with buckets */
#define MOST_CONDITIONS 64
#define LEAD_WORDS 4    /* of what is remembered before a value */
#define SCRATCH_BYTES 16384
#define ADDRESS_BYTES 16
#define MOST_ADDRESSES 1024 /* lines.ADDRESSES_LENGTH: of what may hold an address */
#define MEMO 256 /* texts of a field that are remembered before the table is asked */

enum { TIMESTAMP, PATH, NEEDED, IP = NEEDED, FIRST }; /* the fields that every line must have, and the address */
enum { TEXT, NUMBER, FLAG };          /* how a field is read */
enum { ONE, VALUE, ONE_IF_POSITIVE, ONE_IF_AT_MOST }; /* what a line adds to a column */
enum { NO_STREAM, NOT_ALLOWED, TOO_OLD, REASONS };
enum { UNKNOWN_STREAM, ADMITTED, REFUSED };
/* Among labels: not a field's text, but what is found in the path, an address's version, a number's bucket. */
#define STREAM 255
#define TRACK 254
#define VERSION 253
#define BUCKETS 128
#define SKIPPED 255

typedef struct {
    const char *begin;
    size_t length;
} Span;

typedef struct {
    char *name;
    size_t length;
    uint8_t reads, is_label;
} Field;

/* A line's fields. One that is missing, null or malformed is an empty text, and adds 0. */
typedef struct {
    Span texts[MOST_FIELDS];
    uint64_t counts[MOST_FIELDS];
    uint64_t seen, ignored; /* fields that were met, and those with something malformed */
} Line;

/* What stood before the n-th value of the line before: a brace or a comma, a name, a colon. Lines mostly have the same. */
typedef struct {
    uint64_t text[LEAD_WORDS], mask[LEAD_WORDS]; /* whose bits are set where the text has bytes */
    uint8_t length, field;
} Lead;

/* Entries in the order in which they came, and an index of them by open addressing. Each begins with its hash, behind
 * which its key lies; a text's key lies in the arena. */
typedef struct {
    char *entries;
    uint32_t *slots; /* an entry's number and one; 0 where there is none */
    uint32_t count, room, most;
    size_t entry_bytes, key_bytes;
} Table;

typedef struct {
    uint64_t hash;
    uint32_t begin, length; /* in the arena */
    int admission;          /* as a stream */
    uint64_t events;        /* that have it in the field whose texts are counted */
} Text;

typedef struct {
    uint64_t hash;
    unsigned char bytes[ADDRESS_BYTES];
} Address;

typedef struct {
    uint64_t hash;
    int64_t tick;
    uint32_t address, profile;
    int64_t first, last;
} Viewer;
#define VIEWER_KEY (offsetof(Viewer, first) - sizeof(uint64_t))

/* Sums by tick and labels. An entry: hash, tick, the labels' texts by number (and 0 to the next 8 bytes), sums. */
typedef struct {
    uint8_t labels[MOST_FIELDS + 1], adds[MOST_COLUMNS], fields[MOST_COLUMNS];
    uint64_t most[MOST_COLUMNS], needs[MOST_COLUMNS]; /* the most that counts; conditions that must be met */
    uint8_t required[MOST_FIELDS + 1]; /* labels without which a line does not count */
    size_t label_count, required_count, column_count;
    Table table;
} Cube;
#define LEFT_OUT (-2) /* instead of an entry: the line does not count */
#define LABELS_AT 16

/* A literal text, or `least` to `most` of the characters in `members`; if it is sure, no fewer than there are. */
typedef struct {
    char *literal; /* NULL if it is none */
    size_t length, least, most;
    int is_sure;
    char members[256];
} Piece;

/* A name in a path: what the pieces from `begin` to `end` find, of those that must stand there one after the other. */
typedef struct {
    Piece pieces[MOST_PIECES];
    size_t count, begin, end;
    int anchored;   /* the first is at the path's beginning */
    int ascii_only; /* it finds the same in the bytes of a path that has other characters */
} Pattern;

/* The buckets of a number: so many bounds in order, each the most that is in its bucket, which is a text by number. */
typedef struct {
    uint8_t field;
    uint64_t *bounds;
    size_t count;
    int first; /* the first bucket's text is this number */
    uint32_t *texts; /* numbers and one */
} Buckets;

/* Something that a line's field must hold; of the address "true" and "false", which none is, ask whether there is one. */
typedef struct {
    uint8_t field;
    char *text;
    size_t length;
    int is_about_address, wants_address;
} Condition;

/* Who is seen, by some labels: profiles are their texts, viewers the addresses with their times. */
typedef struct {
    uint8_t labels[MOST_FIELDS + 1], required[MOST_FIELDS + 1]; /* without the latter a line does not count */
    size_t label_count, required_count;
    Table profiles, viewers;
} Audience;

/* Lines that were not taken, as far as they stand together, and how many were taken before them. */
typedef struct {
    uint64_t taken;
    size_t begin, end;
} Run;

typedef struct {
    PyObject_HEAD
    long long tick_seconds, line_bytes, oldest_ms, latest_ms, secrets[2];
    int admitted_only; /* streams of which nothing is known are not taken */
    int busy, closed, ipv6_prefix;
    unsigned shown[REASONS]; /* rejected lines that are left to Python for their examples */
    uint64_t rejects[REASONS], ignored[MOST_FIELDS];
    int64_t oldest_ms_unseen, newest_ms_unseen; /* of events without an address */
    Field fields[MOST_FIELDS];
    size_t field_count;
    int counted; /* the field whose texts are counted by events, or -1 */
    Pattern stream, track;
    Cube *cubes;
    size_t cube_count;
    Audience audiences[MOST_AUDIENCES];
    size_t audience_count;
    Buckets buckets[MOST_BUCKETS];
    size_t buckets_count;
    Condition conditions[MOST_CONDITIONS];
    size_t condition_count;
    int has_versions; /* whether a label is an address's version */
    Table texts, addresses;
    char *arena;
    uint32_t arena_used, arena_room;
    uint32_t memo[MOST_FIELDS + 2][MEMO]; /* by field, then the stream's, then the track's: a text's number and one */
    char minute[16];                      /* of the timestamp before, */
    int64_t minute_ms;                    /* which is this, or 0 */
    Lead leads[MOST_MEMBERS];
    char scratch[SCRATCH_BYTES]; /* texts of a line without their escapes */
    size_t scratch_used;
    Run *runs;
    size_t run_count, run_room;
} Scanner;

static inline uint64_t word_at(const void *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* How 8 or 16 bytes differ: 0 if they are equal. */
static inline uint64_t differ_8(const char *one, const char *other) { return word_at(one) ^ word_at(other); }

static inline uint64_t differ_16(const char *one, const char *other) {
    return differ_8(one, other) | differ_8(one + 8, other + 8);
}

/* In steps, the last of which goes back over what was compared. */
static inline int are_equal(const char *one, const char *other, size_t length) {
    if (length >= 16) {
        for (size_t place = 0; place + 16 < length; place += 16)
            if (differ_16(one + place, other + place))
                return 0;
        return !differ_16(one + length - 16, other + length - 16);
    }
    if (length >= 8)
        return !(differ_8(one, other) | differ_8(one + length - 8, other + length - 8));
    for (size_t place = 0; place < length; place++)
        if (one[place] != other[place])
            return 0;
    return 1;
}

/* Tables */

#define ROTATED(x, bits) ((x) << (bits) | (x) >> (64 - (bits)))
#define SIPROUND                                                                                                       \
    do {                                                                                                               \
        a += b, c += d, b = ROTATED(b, 13) ^ a, d = ROTATED(d, 16) ^ c, a = ROTATED(a, 32);                            \
        c += b, a += d, b = ROTATED(b, 17) ^ c, d = ROTATED(d, 21) ^ a, c = ROTATED(c, 32);                            \
    } while (0)

/* SipHash-1-3 with the process's secret: anyone may invent streams and User-Agents that would fall into one slot. */
static uint64_t hash_of(const long long secrets[2], const char *bytes, size_t length) {
    uint64_t a = (uint64_t)secrets[0] ^ 0x736f6d6570736575u, b = (uint64_t)secrets[1] ^ 0x646f72616e646f6du;
    uint64_t c = (uint64_t)secrets[0] ^ 0x6c7967656e657261u, d = (uint64_t)secrets[1] ^ 0x7465646279746573u;
    for (size_t left = length;; bytes += 8, left -= 8) {
        uint64_t word = left >= 8 ? word_at(bytes) : (uint64_t)length << 56;
        if (left && left < 8)
            memcpy(&word, bytes, left); /* which leaves the length where it is */
        d ^= word;
        SIPROUND;
        a ^= word;
        if (left < 8)
            break;
    }
    c ^= 0xff;
    SIPROUND;
    SIPROUND;
    SIPROUND;
    return a ^ b ^ c ^ d;
}

/* Room for one more entry; 0 if there is none. The index has at least twice as many slots as there are entries. */
static int make_room(Table *table) {
    if (table->count < table->room)
        return table->count < table->most;
    if (table->count >= table->most)
        return 0;
    uint32_t room = table->room ? table->room * 2 : 512, mask = room * 2 - 1;
    char *entries = realloc(table->entries, room * table->entry_bytes);
    if (!entries)
        return 0;
    table->entries = entries;
    uint32_t *slots = calloc((size_t)room * 2, sizeof *slots);
    if (!slots)
        return 0;
    for (uint32_t number = 0; number < table->count; number++) {
        uint32_t slot = (uint32_t)word_at(entries + number * table->entry_bytes) & mask;
        while (slots[slot])
            slot = (slot + 1) & mask;
        slots[slot] = number + 1;
    }
    free(table->slots);
    table->slots = slots;
    table->room = room;
    return 1;
}

/* The number of the entry of a key, which is added if there is none; -1 if there is no room. */
static int64_t number_of_key(const Scanner *self, Table *table, const void *key) {
    int has_room = make_room(table); /* first, since it moves entries and slots */
    if (!table->room)
        return -1;
    uint64_t hash = hash_of(self->secrets, key, table->key_bytes);
    uint32_t mask = table->room * 2 - 1, slot = (uint32_t)hash & mask;
    for (; table->slots[slot]; slot = (slot + 1) & mask) {
        const char *entry = table->entries + (table->slots[slot] - 1) * table->entry_bytes;
        if (word_at(entry) == hash && are_equal(entry + sizeof hash, key, table->key_bytes))
            return table->slots[slot] - 1;
    }
    if (!has_room)
        return -1;
    char *entry = table->entries + table->count * table->entry_bytes;
    memset(entry, 0, table->entry_bytes);
    memcpy(entry, &hash, sizeof hash);
    memcpy(entry + sizeof hash, key, table->key_bytes);
    table->slots[slot] = ++table->count;
    return table->count - 1;
}

/* Texts */

/* Puts a text into the arena; 0 if there is no room. */
static int keep_text(Scanner *self, Text *text, Span span) {
    if (!self->arena || self->arena_room - self->arena_used < span.length) {
        uint32_t room = self->arena_room ? self->arena_room * 2 : 1 << 16;
        char *arena = room <= MOST_ARENA ? realloc(self->arena, room) : NULL;
        if (!arena)
            return 0;
        self->arena = arena;
        self->arena_room = room;
    }
    text->begin = self->arena_used;
    text->length = (uint32_t)span.length;
    memcpy(self->arena + text->begin, span.begin, span.length);
    self->arena_used += (uint32_t)span.length;
    return 1;
}

static inline Text *text_of(const Scanner *self, int64_t number) { return (Text *)self->texts.entries + number; }

static inline int is_text(const Scanner *self, const Text *text, Span span) {
    return text->length == span.length && are_equal(self->arena + text->begin, span.begin, span.length);
}

/* The number of a text, which is added if there is none and `add` is set; -1 if there is none then. */
static int64_t look_up_text(Scanner *self, Span span, int add) {
    Table *table = &self->texts;
    int has_room = make_room(table); /* first, since it moves entries and slots */
    if (!table->room)
        return -1;
    uint64_t hash = hash_of(self->secrets, span.begin, span.length);
    uint32_t mask = table->room * 2 - 1, slot = (uint32_t)hash & mask;
    for (; table->slots[slot]; slot = (slot + 1) & mask) {
        const Text *text = text_of(self, table->slots[slot] - 1);
        if (text->hash == hash && is_text(self, text, span))
            return table->slots[slot] - 1;
    }
    Text *text = text_of(self, table->count);
    if (!add || !has_room || !keep_text(self, text, span))
        return -1;
    text->hash = hash;
    text->admission = UNKNOWN_STREAM;
    text->events = 0;
    table->slots[slot] = ++table->count;
    return table->count - 1;
}

/* A place in a memo: few bytes of a text tell most of them apart. */
static inline unsigned place_of(Span span) {
    uint64_t mixed = span.length;
    if (span.length >= 8) {
        mixed ^= word_at(span.begin) * 0x9e3779b97f4a7c15u;
        mixed ^= word_at(span.begin + span.length / 2 - 4) * 0xc2b2ae3d27d4eb4fu;
        mixed ^= word_at(span.begin + span.length - 8) * 0x165667b19e3779f9u;
    } else {
        for (size_t place = 0; place < span.length; place++)
            mixed = mixed << 8 | (unsigned char)span.begin[place];
    }
    return (unsigned)((mixed * 0x9e3779b97f4a7c15u) >> 56) & (MEMO - 1);
}

/* The same, looked for first among the texts that this field had before. */
static inline int64_t number_of_text(Scanner *self, size_t field, Span span, int add) {
    if (span.length > MOST_TEXT)
        return -1;
    if (!span.length)
        span.begin = "";
    uint32_t *known = &self->memo[field][place_of(span)];
    if (*known && is_text(self, text_of(self, *known - 1), span))
        return *known - 1;
    int64_t number = look_up_text(self, span, add);
    if (number >= 0)
        *known = (uint32_t)number + 1;
    return number;
}

/* JSON. Each of these gives the place behind what it has read, or NULL if that is of no form that is known here. The
 * last byte before `end` is a newline, behind which nothing reads. */

#define ONES 0x0101010101010101u
#define HIGHS 0x8080808080808080u

/* The first byte that does not simply stand for itself in a text: a quote, a backslash, a control, no ASCII. */
static inline const char *stop_of_text(const char *at, const char *end) {
#if defined(__SSE2__)
    const __m128i quotes = _mm_set1_epi8('"'), backslashes = _mm_set1_epi8('\\'), blanks = _mm_set1_epi8(' ');
    for (; end - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)at);
        __m128i stop = _mm_or_si128(_mm_cmpeq_epi8(bytes, quotes), _mm_cmpeq_epi8(bytes, backslashes));
        stop = _mm_or_si128(stop, _mm_cmplt_epi8(bytes, blanks)); /* signed: what is no ASCII is below, too */
        int found = _mm_movemask_epi8(stop);
        if (found)
            return at + __builtin_ctz((unsigned)found);
    }
#elif __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    /* Eight bytes at once. The lowest flag that is set is right; those above it may not be. */
    for (; end - at >= 8; at += 8) {
        uint64_t word = word_at(at);
        uint64_t quote = word ^ (ONES * '"'), backslash = word ^ (ONES * '\\');
        uint64_t stop = ((quote - ONES) & ~quote) | ((backslash - ONES) & ~backslash) | ((word - ONES * ' ') & ~word);
        stop = (stop | word) & HIGHS;
        if (stop)
            return at + (__builtin_ctzll(stop) >> 3);
    }
#endif
    while ((unsigned char)*at >= ' ' && (unsigned char)*at < 0x80 && *at != '"' && *at != '\\')
        at++;
    return at;
}

static inline int is_digit(char byte) { return byte >= '0' && byte <= '9'; }

static inline int hex_value(char byte) {
    return is_digit(byte) ? byte - '0' : (byte | 32) >= 'a' && (byte | 32) <= 'f' ? (byte | 32) - 'a' + 10 : -1;
}

static inline const char *skip_blanks(const char *at) {
    while ((unsigned char)*at <= ' ' && (*at == ' ' || *at == '\t' || *at == '\r')) /* the first is mostly false */
        at++;
    return at;
}

/* The bytes of a character that is no ASCII; 0 if it is not UTF-8. A byte is only looked at when those before are right,
 * so that none behind a newline is. */
static size_t utf8_length(const char *at) {
    const unsigned char *bytes = (const unsigned char *)at, first = bytes[0];
    if (first < 0xc2 || first > 0xf4)
        return 0;
    size_t length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    unsigned lowest = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned highest = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (bytes[1] < lowest || bytes[1] > highest)
        return 0;
    for (size_t place = 2; place < length; place++)
        if ((bytes[place] & 0xc0) != 0x80)
            return 0;
    return length;
}

/* The number that an escape of four hex digits has; -1 if it is no such escape. */
static int32_t read_escape(const char *at, const char *end) {
    if (end - at <= 6)
        return -1;
    int32_t number = 0;
    for (int place = 2; place < 6; place++) {
        int value = hex_value(at[place]);
        if (value < 0)
            return -1;
        number = number << 4 | value;
    }
    return number;
}

static inline int is_surrogate(int32_t number) { return (number & 0xf800) == 0xd800; }

/* The character that two escapes stand for together; 0 if they are no pair. */
static int32_t read_pair(const char *at, const char *end) {
    int32_t high = read_escape(at, end);
    if ((high & 0xfc00) != 0xd800 || end - at <= 12 || at[6] != '\\' || at[7] != 'u')
        return 0;
    int32_t low = read_escape(at + 6, end);
    return (low & 0xfc00) == 0xdc00 ? 0x10000 + ((high & 0x3ff) << 10 | (low & 0x3ff)) : 0;
}

static const char ESCAPES[] = "\"\\/bfnrt", ESCAPED[] = "\"\\/\b\f\n\r\t";

enum { HAS_ESCAPES = 1, HAS_ODD = 2 }; /* odd is what is no character: a byte that is no UTF-8, half a pair */

/* The end of a text that goes on with something other than plain ASCII, and what it has. */
static const char *skip_odd_text(const char *at, const char *end, int *has) {
    for (;; at = stop_of_text(at, end)) {
        if (*at == '"')
            return at;
        size_t length = 0;
        if (*at == '\\') {
            *has |= HAS_ESCAPES;
            int32_t number;
            if (at[1] > ' ' && strchr(ESCAPES, at[1])) {
                length = 2;
            } else if (at[1] == 'u' && (number = read_escape(at, end)) >= 0) {
                length = 6;
                if (is_surrogate(number)) {
                    if (read_pair(at, end))
                        length = 12;
                    else
                        *has |= HAS_ODD;
                }
            }
        } else if ((unsigned char)*at >= 0x80) {
            if (!(length = utf8_length(at))) {
                length = 1;
                *has |= HAS_ODD;
            }
        }
        if (!length)
            return NULL;
        at += length;
    }
}

static char *put_character(char *to, int32_t character) {
    if (character < 0x80) {
        *to++ = (char)character;
        return to;
    }
    int more = character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
    *to++ = (char)((0xff00 >> (more + 1)) | character >> 6 * more); /* a set bit for each byte */
    while (more--)
        *to++ = (char)(0x80 | (character >> 6 * more & 0x3f));
    return to;
}

/* A text without its escapes, in the scratch; 0 if it does not fit there. It is never longer than with them. */
static int unescape(Scanner *self, Span *text, const char *end) {
    if (text->length > SCRATCH_BYTES - self->scratch_used)
        return 0;
    char *begin = self->scratch + self->scratch_used, *to = begin;
    for (const char *at = text->begin, *stop = at + text->length; at < stop;) {
        int32_t number;
        if (*at != '\\') {
            *to++ = *at++;
        } else if (at[1] != 'u') {
            *to++ = ESCAPED[strchr(ESCAPES, at[1]) - ESCAPES];
            at += 2;
        } else if ((number = read_pair(at, end))) {
            to = put_character(to, number);
            at += 12;
        } else {
            number = read_escape(at, end);
            to = put_character(to, is_surrogate(number) ? 0xfffd : number);
            at += 6;
        }
    }
    *text = (Span){begin, (size_t)(to - begin)};
    self->scratch_used += text->length;
    return 1;
}

/* Bytes that are no UTF-8 stay in the text until it is given out. */
static inline const char *read_text(Scanner *self, const char *at, const char *end, Span *text, int *has) {
    if (*at++ != '"')
        return NULL;
    const char *stop = stop_of_text(at, end);
    if (*stop != '"' && !(stop = skip_odd_text(stop, end, has)))
        return NULL;
    *text = (Span){at, (size_t)(stop - at)};
    return !(*has & HAS_ESCAPES) || unescape(self, text, end) ? stop + 1 : NULL;
}

static inline const char *read_digits(const char *at) {
    const char *begin = at;
    while (is_digit(*at))
        at++;
    return at > begin ? at : NULL;
}

/* A number that is no count from 0 to 2^53, or one with a fraction of zeros; what has an exponent is left. */
static const char *read_odd_number(const char *at, const char *end, Span *digits, uint64_t *count, int *is_odd) {
    const char *begin = at, *stop;
    if (*at == '-') {
        *is_odd = 1;
        return at[1] > '0' && (at = read_digits(at + 1)) && *at != '.' && (*at | 32) != 'e' ? at : NULL;
    }
    if (!(stop = at = read_digits(at)) || (*begin == '0' && stop - begin > 1))
        return NULL;
    if (*at == '.') {
        if (!(at = read_digits(at + 1)))
            return NULL;
        for (const char *each = stop + 1; each < at; each++)
            *is_odd |= *each != '0';
    } else {
        *is_odd = 1; /* too large: all others were read before */
    }
    if ((*at | 32) == 'e' || at >= end)
        return NULL;
    if (!*is_odd) {
        if (stop - begin > 15)
            return NULL;
        *digits = (Span){begin, (size_t)(stop - begin)};
        for (*count = 0; begin < stop; begin++)
            *count = *count * 10 + (uint64_t)(*begin - '0');
    }
    return at;
}

static inline const char *read_number(const char *at, const char *end, Span *digits, uint64_t *count, int *is_odd) {
    const char *stop = at;
    uint64_t value = 0;
    for (; is_digit(*stop) && stop - at <= 16; stop++)
        value = value * 10 + (uint64_t)(*stop - '0');
    if (stop == at || stop - at > 16 || (*at == '0' && stop - at > 1) || *stop == '.' || (*stop | 32) == 'e' ||
        value > MOST_COUNT)
        return read_odd_number(at, end, digits, count, is_odd);
    *digits = (Span){at, (size_t)(stop - at)};
    *count = value;
    return stop;
}

/* A number that is written as a text, or an empty one or a dash for none; any other text is left. */
static const char *read_number_text(const char *at, const char *end, Span *digits, uint64_t *count, int *is_odd) {
    if (*at == '"')
        return at + 1;
    if (*at == '-' && at[1] == '"')
        return at + 2;
    at = read_number(at, end, digits, count, is_odd);
    return at && *at == '"' ? at + 1 : NULL;
}

static inline const char *skip_word(const char *at, const char *end, const char *word, long length) {
    return end - at > length && !memcmp(at, word, (size_t)length) ? at + length : NULL;
}

static inline const char *skip_number(const char *at) {
    at += *at == '-';
    const char *end = read_digits(at);
    if (!end || (*at == '0' && end - at > 1))
        return NULL;
    return *end == '.' ? read_digits(end + 1) : end;
}

static inline const char *skip_value(const char *at, const char *end) {
    if (*at == '"') {
        int has = 0;
        const char *stop = stop_of_text(at + 1, end);
        if (*stop != '"' && !(stop = skip_odd_text(stop, end, &has)))
            return NULL;
        return stop + 1;
    }
    if (is_digit(*at) || *at == '-')
        return skip_number(at);
    if (*at == 'f')
        return skip_word(at, end, "false", 5);
    return *at == 't' ? skip_word(at, end, "true", 4) : skip_word(at, end, "null", 4);
}

static const char *read_value(Scanner *self, const char *at, const char *end, unsigned field, Line *line) {
    const Field *of = &self->fields[field];
    const uint64_t bit = (uint64_t)1 << field;
    const char *stop;
    if (line->seen & bit)
        return NULL;
    line->seen |= bit;
    if (*at == 'n')
        return field < NEEDED ? NULL : skip_word(at, end, "null", 4);
    int odd = 0;
    if (of->reads == TEXT && *at == '"') {
        stop = read_text(self, at, end, &line->texts[field], &odd);
        odd &= HAS_ODD;
    } else if (of->reads == TEXT) { /* a number stands for itself */
        if (field < NEEDED || (!is_digit(*at) && *at != '-') || !(stop = skip_number(at)))
            return NULL;
        line->texts[field] = (Span){at, (size_t)(stop - at)};
    } else if (of->reads == NUMBER) {
        stop = *at == '"' ? read_number_text(at + 1, end, &line->texts[field], &line->counts[field], &odd)
                          : read_number(at, end, &line->texts[field], &line->counts[field], &odd);
    } else {
        stop = *at == 't' ? skip_word(at, end, "true", 4) : skip_word(at, end, "false", 5);
        if (stop)
            line->texts[field] = (Span){at, (size_t)(stop - at)};
        line->counts[field] = *at == 't';
    }
    if (odd && field != IP) /* which is judged by whether it has an address */
        line->ignored |= bit;
    return stop;
}

/* Reads what stands before a value, and remembers it. */
static const char *read_lead(const Scanner *self, const char *at, const char *end, char first, Lead *lead) {
    const char *whole = at, *begin, *stop;
    at = skip_blanks(at);
    if (*at != first || *(at = skip_blanks(at + 1)) != '"')
        return NULL;
    begin = at + 1;
    stop = stop_of_text(begin, end);
    if (*stop != '"' || *(at = skip_blanks(stop + 1)) != ':')
        return NULL;
    lead->field = SKIPPED;
    for (size_t field = 0; field < self->field_count; field++)
        if (self->fields[field].length == (size_t)(stop - begin) &&
            !memcmp(self->fields[field].name, begin, (size_t)(stop - begin)))
            lead->field = (uint8_t)field;
    size_t length = (size_t)(++at - whole);
    lead->length = length <= sizeof lead->text ? (uint8_t)length : 0;
    memset(lead->mask, 0, sizeof lead->mask);
    memset(lead->mask, 0xff, lead->length);
    memcpy(lead->text, whole, lead->length);
    return at;
}

/* Whether it stands here, too; at all words at once, for a branch by its length would often be mispredicted. */
static inline int is_lead(const Lead *lead, const char *at, const char *end) {
    uint64_t differ = 0;
    if (!lead->length || end - at < (long)sizeof lead->text)
        return 0;
    for (int word = 0; word < LEAD_WORDS; word++)
        differ |= (word_at(at + 8 * word) ^ lead->text[word]) & lead->mask[word];
    return !differ;
}

/* The newline behind an object that ends here and has all that it needs. */
static const char *read_end(const char *at, const Line *line) {
    const uint64_t needed = ((uint64_t)1 << NEEDED) - 1;
    at = skip_blanks(at);
    if (*at != '}' || *(at = skip_blanks(at + 1)) != '\n')
        return NULL;
    return (line->seen & needed) == needed ? at : NULL;
}

static const char *read_line(Scanner *self, const char *at, const char *end, Line *line) {
    line->seen = line->ignored = 0;
    memset(line->texts, 0, self->field_count * sizeof *line->texts);
    memset(line->counts, 0, self->field_count * sizeof *line->counts);
    self->scratch_used = 0;
    for (int member = 0; member < MOST_MEMBERS; member++) {
        Lead *lead = &self->leads[member];
        const char *value;
        if (is_lead(lead, at, end))
            value = at + lead->length;
        else if (!(value = read_lead(self, at, end, member ? ',' : '{', lead)))
            return member ? read_end(at, line) : NULL;
        value = skip_blanks(value);
        at = lead->field == SKIPPED ? skip_value(value, end) : read_value(self, value, end, lead->field, line);
        if (!at)
            return NULL;
    }
    return read_end(at, line);
}

/* What texts must be */

static inline int number_at(const char *at, int digits) {
    int value = 0;
    for (; digits; digits--, at++) {
        if (!is_digit(*at))
            return -1;
        value = value * 10 + (*at - '0');
    }
    return value;
}

/* Unix milliseconds of `2026-01-10T14:49`, in UTC; 0 for what is of another form or earlier. */
static int64_t read_minute(const char *at) {
    static const int DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year = number_at(at, 4), month = number_at(at + 5, 2), day = number_at(at + 8, 2);
    int hour = number_at(at + 11, 2), minute = number_at(at + 14, 2);
    if (at[4] != '-' || at[7] != '-' || ((at[10] | 32) != 't' && at[10] != ' ') || at[13] != ':' || year < 1970 || month < 1 || month > 12 ||
        day < 1 || hour < 0 || hour > 23 || minute < 0 || minute > 59)
        return 0;
    int leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (day > DAYS[month - 1] + (leap && month == 2))
        return 0;
    int before = year - 1; /* whose days, from year 1 on, are 719162 until 1970 */
    int64_t days = 365 * (int64_t)before + before / 4 - before / 100 + before / 400 - 719162 + day - 1;
    for (int each = 1; each < month; each++)
        days += DAYS[each - 1] + (leap && each == 2);
    return ((days * 24 + hour) * 60 + minute) * 60000;
}

/* Milliseconds of an offset from UTC, such as `Z`, `+01:00`, `-0530` or `+01`; 0 for what is of another form. */
static int read_offset(const char *at, const char *end, int64_t *offset) {
    *offset = 0;
    if (end - at == 1)
        return (*at | 32) == 'z';
    if (end - at < 3 || end - at > 6 || (*at != '+' && *at != '-'))
        return 0;
    int hours = number_at(at + 1, 2), minutes = 0;
    if (end - at > 3) {
        int colon = at[3] == ':';
        if (end - at != 5 + colon)
            return 0;
        minutes = number_at(at + 3 + colon, 2);
    }
    *offset = (int64_t)(hours * 60 + minutes) * (*at == '-' ? -60000 : 60000);
    return hours >= 0 && hours < 24 && minutes >= 0 && minutes < 60;
}

/* Unix milliseconds of `2026-01-10T14:49:28.299Z`, what is finer cut off; 0 for what is of another form or earlier. */
static int64_t read_time(Scanner *self, Span text) {
    const char *at = text.begin, *end = at + text.length;
    if (text.length < 20 || at[16] != ':')
        return 0;
    if (!self->minute_ms || !are_equal(at, self->minute, sizeof self->minute)) {
        self->minute_ms = read_minute(at);
        memcpy(self->minute, at, sizeof self->minute);
    }
    int second = number_at(at + 17, 2), milliseconds = 0;
    int64_t offset;
    if ((!self->minute_ms && !are_equal(at, "1970-01-01T00:00", 16)) || second < 0 || second > 59)
        return 0;
    if (*(at += 19) == '.' || *at == ',') {
        const char *begin = ++at;
        for (int scale = 100; at < end && is_digit(*at); at++, scale /= 10)
            milliseconds += scale * (*at - '0');
        if (at == begin || at - begin > 9)
            return 0;
    }
    if (!read_offset(at, end, &offset))
        return 0;
    int64_t found = self->minute_ms + second * 1000 + milliseconds - offset;
    return found > 0 ? found : 0;
}

/* Four bytes, up to `end`. */
static int read_ipv4(const char *at, const char *end, unsigned char *bytes) {
    for (int part = 0; part < 4; part++) {
        if (part && (at == end || *at++ != '.'))
            return 0;
        const char *begin = at;
        int value = 0;
        while (at < end && is_digit(*at) && at - begin < 3)
            value = value * 10 + (*at++ - '0');
        if (at == begin || value > 255 || (*begin == '0' && at - begin > 1))
            return 0;
        bytes[part] = (unsigned char)value;
    }
    return at == end;
}

/* Groups of hex digits with at most one gap, and perhaps an IPv4 address for the last two. Zones are left to Python. */
static int read_ipv6(const char *at, const char *end, unsigned char *bytes) {
    unsigned char parts[ADDRESS_BYTES];
    int count = 0, gap = -1; /* bytes before the gap */
    if (end - at >= 2 && at[0] == ':' && at[1] == ':') {
        gap = 0;
        at += 2;
    }
    while (at < end) {
        const char *begin = at;
        int value = 0, digit;
        while (at < end && at - begin < 4 && (digit = hex_value(*at)) >= 0)
            value = value << 4 | digit, at++;
        if (at < end && *at == '.') {
            if (count > ADDRESS_BYTES - 4 || !read_ipv4(begin, end, parts + count))
                return 0;
            count += 4;
            break;
        }
        if (at == begin || count == ADDRESS_BYTES)
            return 0;
        parts[count++] = (unsigned char)(value >> 8);
        parts[count++] = (unsigned char)value;
        if (at == end)
            break;
        if (*at++ != ':' || at == end)
            return 0;
        if (*at == ':') {
            if (gap >= 0)
                return 0;
            gap = count;
            at++;
        }
    }
    if (gap < 0 ? count != ADDRESS_BYTES : count > ADDRESS_BYTES - 2)
        return 0;
    int before = gap < 0 ? count : gap;
    memset(bytes, 0, ADDRESS_BYTES);
    memcpy(bytes, parts, (size_t)before);
    memcpy(bytes + ADDRESS_BYTES - (count - before), parts + before, (size_t)(count - before));
    return 1;
}

static const unsigned char MAPPED[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

enum { NO_ADDRESS, IS_ADDRESS, NOT_KNOWN };

static int read_ip(const char *at, const char *end, unsigned char *bytes) {
    memcpy(bytes, MAPPED, sizeof MAPPED);
    return read_ipv4(at, end, bytes + sizeof MAPPED) || read_ipv6(at, end, bytes);
}

/* The place behind a port's colon and digits, of which there may be up to five, is `end`. */
static int is_port(const char *at, const char *end) {
    if (end - at < 2 || end - at > 6 || *at != ':')
        return 0;
    while (++at < end)
        if (!is_digit(*at))
            return 0;
    return 1;
}

/* An address alone, or one with a port: `1.2.3.4:80`, `[::1]:80`, `[::1]`. */
static int read_host(const char *at, const char *end, unsigned char *bytes) {
    if (at < end && *at == '[') {
        const char *bracket = memchr(at, ']', (size_t)(end - at));
        return bracket && (bracket + 1 == end || is_port(bracket + 1, end)) && read_ipv6(at + 1, bracket, bytes);
    }
    if (read_ip(at, end, bytes))
        return 1;
    const char *colon = memchr(at, ':', (size_t)(end - at));
    memcpy(bytes, MAPPED, sizeof MAPPED);
    return colon && is_port(colon, end) && read_ipv4(at, colon, bytes + sizeof MAPPED);
}

/* The first address of a list as 16 bytes, an IPv4 one as that which it is mapped to. Zones are left to Python. */
static int read_address(const Scanner *self, Span text, unsigned char *bytes) {
    if (!text.length)
        return NO_ADDRESS;
    const char *at = text.begin, *end = at + text.length;
    int found = read_ip(at, end, bytes);
    if (!found && (text.length > MOST_ADDRESSES || memchr(at, '%', text.length)))
        return NOT_KNOWN;
    for (const char *stop; !found && at < end; at = stop + (stop < end)) {
        const char *last;
        if (!(stop = memchr(at, ',', (size_t)(end - at))))
            stop = end;
        for (last = stop; last > at && (last[-1] == ' ' || last[-1] == '\t');)
            last--;
        while (at < last && (*at == ' ' || *at == '\t'))
            at++;
        found = read_host(at, last, bytes);
    }
    if (found && memcmp(bytes, MAPPED, sizeof MAPPED))
        for (int bit = self->ipv6_prefix; bit < 8 * ADDRESS_BYTES; bit++)
            bytes[bit / 8] &= (unsigned char)~(0x80 >> bit % 8);
    return found ? IS_ADDRESS : NO_ADDRESS;
}

/* Whether the pieces from this one on stand at a place: 1 or 0, or -1 when that would take too long. `marks`: where each
 * begins, and where the last ends. */
static int match_pieces(const Pattern *pattern, size_t number, const char *at, const char *end, const char *marks[],
                        size_t *patience) {
    for (; number < pattern->count; number++) {
        const Piece *piece = &pattern->pieces[number];
        marks[number] = at;
        if (piece->literal) {
            if ((size_t)(end - at) < piece->length || memcmp(at, piece->literal, piece->length))
                return 0;
            at += piece->length;
            continue;
        }
        const char *stop = at;
        const char *last = (size_t)(end - at) < piece->most ? end : at + piece->most;
        while (stop < last && piece->members[(unsigned char)*stop])
            stop++;
        if (*patience < (size_t)(stop - at))
            return -1;
        *patience -= (size_t)(stop - at);
        if ((size_t)(stop - at) < piece->least)
            return 0;
        if (piece->is_sure) {
            at = stop;
            continue;
        }
        for (;; stop--) {
            int found = match_pieces(pattern, number + 1, stop, end, marks, patience);
            if (found || stop == at + piece->least)
                return found;
            if (!*patience)
                return -1;
            --*patience;
        }
    }
    marks[number] = at;
    return 1;
}

/* The name in a path, as a search for the pattern finds it: empty if there is none; 0 if that is left to Python. */
static int find_name(const Pattern *pattern, Span path, Span *name) {
    const char *end = path.begin + path.length, *marks[MOST_PIECES + 1];
    const Piece *first = &pattern->pieces[0];
    size_t patience = 4 * path.length + 1024; /* of a search, which in bad cases is quadratic */
    *name = (Span){path.begin, 0};
    if (!pattern->ascii_only)
        for (const char *at = path.begin; at < end; at++)
            if ((unsigned char)*at >= 0x80)
                return 0;
    for (const char *at = path.begin; at <= end; at++) {
        if (first->literal && !pattern->anchored &&
            !(at = memchr(at, *first->literal, (size_t)(end - at))))
            return 1;
        int found = match_pieces(pattern, 0, at, end, marks, &patience);
        if (found > 0)
            *name = (Span){marks[pattern->begin], (size_t)(marks[pattern->end] - marks[pattern->begin])};
        if (found || pattern->anchored)
            return found >= 0;
        if (!patience--)
            return 0;
    }
    return 1;
}

/* Lines */

/* A line that is no event: taken, unless Python shall show it. */
static int reject(Scanner *self, int reason) {
    if (self->shown[reason]) {
        self->shown[reason]--;
        return 0;
    }
    self->rejects[reason]++;
    return 1;
}

/* The conditions that a line meets. */
static uint64_t conditions_met(const Scanner *self, const Line *line, int has_address) {
    uint64_t met = 0;
    for (size_t each = 0; each < self->condition_count; each++) {
        const Condition *condition = &self->conditions[each];
        Span text = line->texts[condition->field];
        int is_equal = text.length == condition->length && are_equal(text.begin, condition->text, text.length);
        if (condition->is_about_address ? has_address == condition->wants_address : is_equal)
            met |= (uint64_t)1 << each;
    }
    return met;
}

static void add_to(const Cube *cube, const Line *line, uint64_t met, int64_t number) {
    char *entry = cube->table.entries + (size_t)number * cube->table.entry_bytes;
    uint64_t *sums = (uint64_t *)(entry + sizeof(uint64_t) + cube->table.key_bytes);
    for (size_t column = 0; column < cube->column_count; column++) {
        uint64_t value = cube->adds[column] == ONE ? 1 : line->counts[cube->fields[column]];
        if (cube->adds[column] >= ONE_IF_POSITIVE)
            value = value > 0 && (cube->adds[column] == ONE_IF_POSITIVE || value <= cube->most[column]);
        if (cube->needs[column] & ~met)
            continue;
        sums[column] = value > MOST_SUM - sums[column] ? MOST_SUM : sums[column] + value;
    }
}

static int has_all(const Scanner *self, const uint8_t *labels, size_t count, const uint32_t *numbers) {
    for (size_t label = 0; label < count; label++)
        if (!text_of(self, numbers[labels[label]])->length)
            return 0;
    return 1;
}

/* The entry of a cube to which a line is added; -1 without room. `numbers`: the text of each label that there can be. */
static int64_t group_of(const Scanner *self, Cube *cube, int64_t tick, const uint32_t *numbers) {
    if (!has_all(self, cube->required, cube->required_count, numbers))
        return LEFT_OUT;
    union {
        int64_t tick;
        uint32_t words[2 + MOST_FIELDS + 2];
    } key;
    memset(&key, 0, cube->table.key_bytes);
    key.tick = tick;
    for (size_t label = 0; label < cube->label_count; label++)
        key.words[2 + label] = numbers[cube->labels[label]];
    return number_of_key(self, &cube->table, &key);
}

static int64_t viewer_of(const Scanner *self, Audience *audience, uint32_t address, int64_t tick,
                         const uint32_t *numbers) {
    if (!has_all(self, audience->required, audience->required_count, numbers))
        return LEFT_OUT;
    uint32_t profile[MOST_FIELDS + 1];
    for (size_t label = 0; label < audience->label_count; label++)
        profile[label] = numbers[audience->labels[label]];
    int64_t of_profile = number_of_key(self, &audience->profiles, profile);
    if (of_profile < 0)
        return -1;
    Viewer viewer = {.tick = tick, .address = address, .profile = (uint32_t)of_profile};
    return number_of_key(self, &audience->viewers, &viewer.tick);
}

/* What an event says beyond its sums: which of its fields are malformed, and when it was if its viewer is not known. */
static void note_ignored(Scanner *self, uint64_t ignored) {
    for (size_t field = 0; ignored; field++, ignored >>= 1)
        self->ignored[field] += ignored & 1;
}

static void note_unseen(Scanner *self, int64_t at) {
    if (!self->oldest_ms_unseen || at < self->oldest_ms_unseen)
        self->oldest_ms_unseen = at;
    if (at > self->newest_ms_unseen)
        self->newest_ms_unseen = at;
}

static void note_viewer(Viewer *seen, int64_t at) {
    if (!seen->first || at < seen->first)
        seen->first = at;
    if (at > seen->last)
        seen->last = at;
}

static inline int is_nothing(Span text) { return !text.length || (text.length == 1 && *text.begin == '-'); }

/* The bucket of a number, as a text's number; that of no text for 0; -1 without room. */
static int64_t bucket_of(Scanner *self, Buckets *buckets, uint64_t value) {
    if (!value)
        return look_up_text(self, (Span){"", 0}, 1);
    size_t low = 0, high = buckets->count - 1; /* the last has no end */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (buckets->bounds[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    if (!buckets->texts[low]) {
        char text[16];
        int length = snprintf(text, sizeof text, "%d", buckets->first + (int)low);
        int64_t number = look_up_text(self, (Span){text, (size_t)length}, 1);
        if (number < 0)
            return -1;
        buckets->texts[low] = (uint32_t)number + 1;
    }
    return buckets->texts[low] - 1;
}

/* The texts of all labels of a line but the stream's, by number; 0 if the line is not taken. */
static int find_labels(Scanner *self, const Line *line, const unsigned char *address, uint32_t *numbers) {
    int64_t number;
    for (size_t field = 0; field < self->field_count; field++)
        if (self->fields[field].is_label) {
            if ((number = number_of_text(self, field, line->texts[field], 1)) < 0)
                return 0;
            numbers[field] = (uint32_t)number;
        }
    if (self->track.count) {
        Span track;
        if (!find_name(&self->track, line->texts[PATH], &track) ||
            (number = number_of_text(self, MOST_FIELDS + 1, track, 1)) < 0)
            return 0;
        numbers[TRACK] = (uint32_t)number;
    }
    if (self->has_versions) {
        int is_mapped = address && !memcmp(address, MAPPED, sizeof MAPPED);
        if ((number = look_up_text(self, (Span){is_mapped ? "4" : "6", address != NULL}, 1)) < 0)
            return 0;
        numbers[VERSION] = (uint32_t)number;
    }
    for (size_t each = 0; each < self->buckets_count; each++) {
        Buckets *buckets = &self->buckets[each];
        if ((number = bucket_of(self, buckets, line->counts[buckets->field])) < 0)
            return 0;
        numbers[BUCKETS + each] = (uint32_t)number;
    }
    return 1;
}

/* Counts a line; 0 if it is not taken, and then nothing has changed but what is remembered. */
static int count_line(Scanner *self, const Line *line) {
    int64_t at = read_time(self, line->texts[TIMESTAMP]), groups[MOST_CUBES], viewers[MOST_AUDIENCES];
    uint32_t numbers[256];
    unsigned char address[ADDRESS_BYTES];
    Span stream;
    if (!at || !find_name(&self->stream, line->texts[PATH], &stream))
        return 0;
    if (!stream.length)
        return reject(self, NO_STREAM);
    int64_t of_stream = number_of_text(self, MOST_FIELDS, stream, !self->admitted_only), of_address = -1;
    if (of_stream < 0 || (self->admitted_only && text_of(self, of_stream)->admission == UNKNOWN_STREAM))
        return 0;
    if (text_of(self, of_stream)->admission == REFUSED)
        return reject(self, NOT_ALLOWED);
    if (at < self->oldest_ms)
        return reject(self, TOO_OLD);
    if (at > self->latest_ms && !(at = self->latest_ms))
        return 0;
    int has_address = read_address(self, line->texts[IP], address);
    if (has_address == NOT_KNOWN || !find_labels(self, line, has_address ? address : NULL, numbers))
        return 0;
    numbers[STREAM] = (uint32_t)of_stream;
    int64_t tick = (at / 1000 / self->tick_seconds + 1) * self->tick_seconds;
    for (size_t cube = 0; cube < self->cube_count; cube++)
        if ((groups[cube] = group_of(self, &self->cubes[cube], tick, numbers)) == -1)
            return 0;
    if (has_address && (of_address = number_of_key(self, &self->addresses, address)) < 0)
        return 0;
    for (size_t each = 0; has_address && each < self->audience_count; each++)
        if ((viewers[each] = viewer_of(self, &self->audiences[each], (uint32_t)of_address, tick, numbers)) == -1)
            return 0;
    uint64_t met = conditions_met(self, line, has_address);
    for (size_t cube = 0; cube < self->cube_count; cube++)
        if (groups[cube] != LEFT_OUT)
            add_to(&self->cubes[cube], line, met, groups[cube]);
    for (size_t each = 0; has_address && each < self->audience_count; each++)
        if (viewers[each] != LEFT_OUT)
            note_viewer((Viewer *)self->audiences[each].viewers.entries + viewers[each], at);
    if (!has_address)
        note_unseen(self, at);
    if (self->counted >= 0)
        text_of(self, numbers[self->counted])->events++;
    uint64_t ignored = line->ignored;
    if (!has_address && !is_nothing(line->texts[IP]))
        ignored |= (uint64_t)1 << IP;
    if (ignored)
        note_ignored(self, ignored);
    return 1;
}

static Run *next_run(Scanner *self, uint64_t taken, size_t begin) {
    if (self->run_count == self->run_room) {
        size_t room = self->run_room ? self->run_room * 2 : 64;
        Run *runs = realloc(self->runs, room * sizeof *runs);
        if (!runs)
            return NULL;
        self->runs = runs;
        self->run_room = room;
    }
    Run *run = &self->runs[self->run_count++];
    *run = (Run){taken, begin, begin};
    return run;
}

/* Takes what it can of the lines; the others are in `runs`, the last of which may be empty. 0 without memory. */
static int take_lines(Scanner *self, const char *data, size_t begin, size_t stop) {
    const char *end = data + stop;
    uint64_t taken = 0;
    Run *run = NULL; /* that ends where the line begins */
    self->run_count = 0;
    for (const char *at = data + begin; at < end;) {
        Line line;
        const char *newline = read_line(self, at, end, &line);
        if (newline && newline - at <= self->line_bytes && count_line(self, &line)) {
            taken++;
            run = NULL;
        } else {
            if (!newline)
                newline = memchr(at, '\n', (size_t)(end - at));
            if (!run && !(run = next_run(self, taken, (size_t)(at - data))))
                return 0;
            run->end = (size_t)(newline + 1 - data);
            taken = 0;
        }
        at = newline + 1;
    }
    return !taken || next_run(self, taken, stop) != NULL;
}

/* Python: what is told */

static void release_table(Table *table) {
    free(table->entries);
    free(table->slots);
    table->entries = NULL;
    table->slots = NULL;
    table->count = table->room = 0;
}

static void release_pattern(Pattern *pattern) {
    for (size_t piece = 0; piece < pattern->count; piece++)
        free(pattern->pieces[piece].literal);
    pattern->count = 0;
}

static void release(Scanner *self) {
    release_table(&self->texts);
    release_table(&self->addresses);
    for (size_t each = 0; each < self->audience_count; each++) {
        release_table(&self->audiences[each].profiles);
        release_table(&self->audiences[each].viewers);
    }
    for (size_t each = 0; each < self->buckets_count; each++) {
        free(self->buckets[each].bounds);
        free(self->buckets[each].texts);
    }
    for (size_t each = 0; each < self->condition_count; each++)
        free(self->conditions[each].text);
    for (size_t cube = 0; cube < self->cube_count; cube++)
        release_table(&self->cubes[cube].table);
    for (size_t field = 0; field < self->field_count; field++)
        free(self->fields[field].name);
    release_pattern(&self->stream);
    release_pattern(&self->track);
    free(self->cubes);
    free(self->arena);
    free(self->runs);
    self->cubes = NULL;
    self->arena = NULL;
    self->runs = NULL;
    self->cube_count = self->field_count = self->audience_count = self->buckets_count = self->condition_count = 0;
    self->closed = 1;
}

static char *copy_of(const char *bytes, Py_ssize_t length) {
    char *copy = malloc((size_t)length + 1);
    if (!copy) {
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(copy, bytes, (size_t)length);
    return copy;
}

static int refuse(const char *words) {
    PyErr_SetString(PyExc_ValueError, words);
    return 0;
}

/* Fields: (name, how it is read, whether it is a label: 2 if its texts are counted too). */
static int take_fields(Scanner *self, PyObject *fields) {
    Py_ssize_t count = PyTuple_Size(fields);
    self->counted = -1;
    if (count < FIRST || count > MOST_FIELDS)
        return refuse("there are too few fields, or too many");
    for (Py_ssize_t place = 0; place < count; place++) {
        Field *field = &self->fields[place];
        const char *name;
        Py_ssize_t length;
        if (!PyArg_ParseTuple(PyTuple_GetItem(fields, place), "s#bb", &name, &length, &field->reads, &field->is_label))
            return 0;
        if (field->reads > FLAG || (place < FIRST && field->reads != TEXT))
            return refuse("a field cannot be read like this");
        if (field->is_label == 2)
            self->counted = (int)place;
        if (!(field->name = copy_of(name, length)))
            return 0;
        field->length = (size_t)length;
        self->field_count++;
    }
    return 1;
}

static int is_label(Scanner *self, uint8_t label) {
    if (label == VERSION)
        self->has_versions = 1;
    return label == STREAM || label == VERSION || (label == TRACK && self->track.count) ||
           (label >= BUCKETS && label < BUCKETS + self->buckets_count) ||
           (label < self->field_count && self->fields[label].is_label);
}

/* Labels as bytes: numbers of fields that are labels, STREAM, TRACK, VERSION, or BUCKETS and the number of some. */
static int take_labels(Scanner *self, uint8_t *labels, size_t *count, const char *given, Py_ssize_t length) {
    if (length > MOST_FIELDS + 1)
        return refuse("there are too many labels");
    for (Py_ssize_t place = 0; place < length; place++)
        if (!is_label(self, labels[place] = (uint8_t)given[place]))
            return refuse("a label is of no field");
    *count = (size_t)length;
    return 1;
}

/* A cube: (labels, those that are required, what each column adds, each column's field, the most that counts, conditions as bits). */
static int take_cube(Scanner *self, Cube *cube, PyObject *given, uint32_t most) {
    const char *labels, *required, *adds, *fields, *bounds, *needs;
    Py_ssize_t label_count, required_count, count, field_count, bound_bytes, need_bytes, words;
    if (!PyArg_ParseTuple(given, "y#y#y#y#y#y#", &labels, &label_count, &required, &required_count, &adds, &count,
                          &fields, &field_count, &bounds, &bound_bytes, &needs, &need_bytes) ||
        !take_labels(self, cube->labels, &cube->label_count, labels, label_count) ||
        !take_labels(self, cube->required, &cube->required_count, required, required_count))
        return 0;
    words = count * (Py_ssize_t)sizeof(uint64_t);
    if (count < 1 || count > MOST_COLUMNS || count != field_count || adds[0] != ONE || bound_bytes != words ||
        need_bytes != words)
        return refuse("a cube's first column counts its events, and it has not too many others");
    memcpy(cube->most, bounds, (size_t)words);
    memcpy(cube->needs, needs, (size_t)words);
    for (Py_ssize_t column = 0; column < count; column++) {
        cube->adds[column] = (uint8_t)adds[column];
        cube->fields[column] = (uint8_t)fields[column];
        if (cube->adds[column] > ONE_IF_AT_MOST || cube->fields[column] >= self->field_count)
            return refuse("a column is of no field");
    }
    if (cube->needs[0])
        return refuse("a cube's first column counts all of its events");
    cube->column_count = (size_t)count;
    cube->table.key_bytes = sizeof(int64_t) + (cube->label_count + 1) / 2 * 8;
    cube->table.entry_bytes = sizeof(uint64_t) + cube->table.key_bytes + cube->column_count * sizeof(uint64_t);
    cube->table.most = most;
    return 1;
}

/* Buckets: (field, bounds, the first bucket's number). */
static int take_buckets(Scanner *self, PyObject *all) {
    Py_ssize_t count = PyTuple_Size(all);
    if (count > MOST_BUCKETS)
        return refuse("too many numbers have buckets");
    for (Py_ssize_t each = 0; each < count; each++) {
        Buckets *buckets = &self->buckets[each];
        const char *bounds;
        Py_ssize_t bytes;
        if (!PyArg_ParseTuple(PyTuple_GetItem(all, each), "by#i", &buckets->field, &bounds, &bytes, &buckets->first))
            return 0;
        if (buckets->field >= self->field_count || bytes < (Py_ssize_t)sizeof(uint64_t))
            return refuse("buckets are of no field, or there are none");
        buckets->count = (size_t)bytes / sizeof(uint64_t);
        buckets->bounds = (uint64_t *)copy_of(bounds, bytes);
        buckets->texts = calloc(buckets->count, sizeof *buckets->texts);
        self->buckets_count++;
        if (!buckets->bounds || !buckets->texts)
            return PyErr_NoMemory() != NULL;
    }
    return 1;
}

/* Conditions: (field, what it must hold). */
static int take_conditions(Scanner *self, PyObject *all) {
    Py_ssize_t count = PyTuple_Size(all);
    if (count > MOST_CONDITIONS)
        return refuse("there are too many conditions");
    for (Py_ssize_t each = 0; each < count; each++) {
        Condition *condition = &self->conditions[each];
        const char *text;
        Py_ssize_t length;
        if (!PyArg_ParseTuple(PyTuple_GetItem(all, each), "by#", &condition->field, &text, &length))
            return 0;
        if (condition->field >= self->field_count)
            return refuse("a condition is of no field");
        condition->length = (size_t)length;
        if (!(condition->text = copy_of(text, length)))
            return 0;
        condition->wants_address = length == 4 && !memcmp(text, "true", 4);
        condition->is_about_address =
            condition->field == IP && (condition->wants_address || (length == 5 && !memcmp(text, "false", 5)));
        self->condition_count++;
    }
    return 1;
}

static int take_cubes(Scanner *self, PyObject *cubes, uint32_t most) {
    Py_ssize_t count = PyTuple_Size(cubes);
    if (count < 1 || count > MOST_CUBES)
        return refuse("there are no cubes, or too many");
    if (!(self->cubes = calloc((size_t)count, sizeof(Cube)))) {
        PyErr_NoMemory();
        return 0;
    }
    self->cube_count = (size_t)count;
    for (Py_ssize_t place = 0; place < count; place++)
        if (!take_cube(self, &self->cubes[place], PyTuple_GetItem(cubes, place), most))
            return 0;
    return 1;
}

/* A piece: (literal, or nothing, members, least, most, whether it is sure). */
static int take_piece(Pattern *pattern, PyObject *given) {
    Piece *piece = &pattern->pieces[pattern->count];
    const char *literal, *members;
    Py_ssize_t length, member_count, least, most;
    if (!PyArg_ParseTuple(given, "y#y#nnp", &literal, &length, &members, &member_count, &least, &most, &piece->is_sure))
        return 0;
    if (member_count != 256 || least < 0 || most < least)
        return refuse("the characters of a path are not told");
    memcpy(piece->members, members, sizeof piece->members);
    piece->length = (size_t)length;
    piece->least = (size_t)least;
    piece->most = (size_t)most;
    if (length && !(piece->literal = copy_of(literal, length)))
        return 0;
    pattern->count++;
    return 1;
}

/* A pattern: (pieces, where the name begins and ends among them, anchored, ASCII only). */
static int take_pattern(Pattern *pattern, PyObject *given) {
    PyObject *pieces;
    Py_ssize_t begin, end;
    if (!PyArg_ParseTuple(given, "O!nnpp", &PyTuple_Type, &pieces, &begin, &end, &pattern->anchored,
                          &pattern->ascii_only))
        return 0;
    Py_ssize_t count = PyTuple_Size(pieces);
    if (count < 1 || count > MOST_PIECES || begin < 0 || end < begin || end > count)
        return refuse("a pattern has no pieces, or too many");
    for (Py_ssize_t piece = 0; piece < count; piece++)
        if (!take_piece(pattern, PyTuple_GetItem(pieces, piece)))
            return 0;
    pattern->begin = (size_t)begin;
    pattern->end = (size_t)end;
    return 1;
}

static void take_table(Table *table, size_t entry_bytes, size_t key_bytes, uint32_t most) {
    table->entry_bytes = entry_bytes;
    table->key_bytes = key_bytes;
    table->most = most;
}

/* Audiences: the labels of each. */
static int take_audiences(Scanner *self, PyObject *all, uint32_t most) {
    Py_ssize_t count = PyTuple_Size(all);
    if (count < 1 || count > MOST_AUDIENCES)
        return refuse("there are no audiences, or too many");
    for (Py_ssize_t each = 0; each < count; each++) {
        Audience *audience = &self->audiences[each];
        const char *labels, *required;
        Py_ssize_t length, required_length;
        if (!PyArg_ParseTuple(PyTuple_GetItem(all, each), "y#y#", &labels, &length, &required, &required_length) ||
            !take_labels(self, audience->labels, &audience->label_count, labels, length) ||
            !take_labels(self, audience->required, &audience->required_count, required, required_length))
            return 0;
        size_t bytes = audience->label_count * sizeof(uint32_t);
        take_table(&audience->profiles, sizeof(uint64_t) + (bytes + 7) / 8 * 8, bytes, most);
        take_table(&audience->viewers, sizeof(Viewer), VIEWER_KEY, most);
        self->audience_count++;
    }
    return 1;
}

static int take_settings(Scanner *self, PyObject *args, PyObject *keywords) {
    static char *names[] = {"fields",        "conditions",  "buckets",   "cubes",     "audiences",
                            "stream",        "track",       "tick_seconds", "line_bytes", "oldest_ms",
                            "latest_ms",     "rows",        "admitted_only", "examples", "secrets",
                            "ipv6_prefix",   NULL};
    PyObject *fields, *conditions, *buckets, *cubes, *audiences, *stream, *track;
    unsigned long rows, examples;
    if (!PyArg_ParseTupleAndKeywords(
            args, keywords, "O!O!O!O!O!O!O!LLLLkpk(LL)i", names, &PyTuple_Type, &fields, &PyTuple_Type, &conditions,
            &PyTuple_Type, &buckets, &PyTuple_Type, &cubes, &PyTuple_Type, &audiences, &PyTuple_Type, &stream,
            &PyTuple_Type, &track, &self->tick_seconds, &self->line_bytes, &self->oldest_ms, &self->latest_ms, &rows,
            &self->admitted_only, &examples, &self->secrets[0], &self->secrets[1], &self->ipv6_prefix))
        return 0;
    if (self->tick_seconds < 1)
        return refuse("a tick has a length");
    if (self->ipv6_prefix < 0)
        return refuse("a prefix has a length");
    for (int reason = 0; reason < REASONS; reason++)
        self->shown[reason] = (unsigned)examples;
    uint32_t most = rows < MOST_ROWS ? (uint32_t)rows : MOST_ROWS;
    take_table(&self->texts, sizeof(Text), 0, MOST_TEXTS);
    take_table(&self->addresses, sizeof(Address), ADDRESS_BYTES, most);
    return take_fields(self, fields) && take_conditions(self, conditions) && take_buckets(self, buckets) &&
           take_pattern(&self->stream, stream) && (!PyTuple_Size(track) || take_pattern(&self->track, track)) &&
           take_cubes(self, cubes, most) && take_audiences(self, audiences, most);
}

static void scanner_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    release((Scanner *)object);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyObject *scanner_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    PyObject *object = ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0); /* all zeros */
    if (object && !take_settings((Scanner *)object, args, keywords))
        Py_CLEAR(object);
    return object;
}

/* Whether the scanner can be used now: not by two threads at once, and not after its end. */
static int is_free(const Scanner *self) {
    if (self->busy || self->closed)
        PyErr_SetString(PyExc_RuntimeError, self->closed ? "the scanner is closed" : "the scanner is in use");
    return !self->busy && !self->closed;
}

static PyObject *scanner_take(PyObject *object, PyObject *args) {
    Scanner *self = (Scanner *)object;
    PyObject *piece;
    Py_ssize_t begin, end = -1, length;
    char *data;
    if (!PyArg_ParseTuple(args, "O!n|n", &PyBytes_Type, &piece, &begin, &end) || !is_free(self) ||
        PyBytes_AsStringAndSize(piece, &data, &length) < 0)
        return NULL;
    if (end == -1)
        end = length;
    if (begin < 0 || begin >= end || end > length || data[end - 1] != '\n') {
        PyErr_SetString(PyExc_ValueError, "there must be lines, each with its newline");
        return NULL;
    }
    int done;
    self->busy = 1;
    Py_BEGIN_ALLOW_THREADS /* bytes do not change, and the caller keeps them */
    done = take_lines(self, data, (size_t)begin, (size_t)end);
    Py_END_ALLOW_THREADS
    self->busy = 0;
    if (!done)
        return PyErr_NoMemory();
    PyObject *runs = PyList_New((Py_ssize_t)self->run_count);
    for (size_t each = 0; runs && each < self->run_count; each++) {
        const Run *run = &self->runs[each];
        PyObject *entry = Py_BuildValue("(Knn)", (unsigned long long)run->taken, run->begin, run->end);
        if (!entry || PyList_SetItem(runs, (Py_ssize_t)each, entry))
            Py_CLEAR(runs);
    }
    return runs;
}

static PyObject *scanner_admit(PyObject *object, PyObject *args) {
    Scanner *self = (Scanner *)object;
    const char *stream;
    Py_ssize_t length;
    int admitted;
    if (!PyArg_ParseTuple(args, "s#p", &stream, &length, &admitted) || !is_free(self))
        return NULL;
    int64_t number = number_of_text(self, MOST_FIELDS, (Span){stream, (size_t)length}, 1);
    if (number >= 0)
        text_of(self, number)->admission = admitted ? ADMITTED : REFUSED;
    Py_RETURN_NONE;
}

/* How many groups of one cube there are, or viewers of one audience, at most; some may be the same by their labels. */
static PyObject *scanner_rows(PyObject *object, PyObject *Py_UNUSED(none)) {
    Scanner *self = (Scanner *)object;
    if (!is_free(self))
        return NULL;
    size_t rows = 0;
    for (size_t each = 0; each < self->audience_count; each++)
        rows = self->audiences[each].viewers.count > rows ? self->audiences[each].viewers.count : rows;
    for (size_t cube = 0; cube < self->cube_count; cube++)
        rows = self->cubes[cube].table.count > rows ? self->cubes[cube].table.count : rows;
    return PyLong_FromSize_t(rows);
}

/* Python: what is given out */

/* All texts as strings, by their numbers; what is no UTF-8 in them is replaced. */
static PyObject *strings_of(const Scanner *self) {
    PyObject *strings = PyTuple_New(self->texts.count);
    for (uint32_t number = 0; strings && number < self->texts.count; number++) {
        const Text *text = text_of(self, number);
        PyObject *string = PyUnicode_DecodeUTF8(self->arena + text->begin, text->length, "replace");
        if (!string || PyTuple_SetItem(strings, number, string))
            Py_CLEAR(strings);
    }
    return strings;
}

/* Bytes with room for some rows, and where they begin. */
static PyObject *make_rows(size_t count, size_t row_bytes, void *begin) {
    PyObject *rows = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(count * row_bytes));
    char *at = rows ? PyBytes_AsString(rows) : NULL;
    memcpy(begin, &at, sizeof at);
    return rows;
}

/* By text, the events that have it in the field whose texts are counted. */
static PyObject *scanner_events(PyObject *object, PyObject *Py_UNUSED(none)) {
    Scanner *self = (Scanner *)object;
    uint64_t *events;
    if (!is_free(self))
        return NULL;
    PyObject *rows = make_rows(self->texts.count, sizeof *events, &events);
    for (uint32_t number = 0; events && number < self->texts.count; number++)
        events[number] = text_of(self, number)->events;
    return rows;
}

static PyObject *packed(PyObject *parts[], Py_ssize_t count) {
    PyObject *whole = PyTuple_New(count);
    for (Py_ssize_t each = 0; each < count; each++)
        if (!parts[each] || !whole || PyTuple_SetItem(whole, each, Py_NewRef(parts[each])))
            Py_CLEAR(whole);
    for (Py_ssize_t each = 0; each < count; each++)
        Py_XDECREF(parts[each]);
    return whole;
}

/* A cube's groups that count an event: their ticks, labels and sums. */
static PyObject *groups_of(const Cube *cube) {
    const Table *table = &cube->table;
    size_t count = 0, sums_at = sizeof(uint64_t) + table->key_bytes;
    for (uint32_t number = 0; number < table->count; number++)
        count += word_at(table->entries + number * table->entry_bytes + sums_at) > 0;
    char *ticks, *labels, *sums;
    size_t label_bytes = cube->label_count * sizeof(uint32_t), sum_bytes = cube->column_count * sizeof(uint64_t);
    PyObject *parts[] = {make_rows(count, sizeof(int64_t), &ticks), make_rows(count, label_bytes, &labels),
                         make_rows(count, sum_bytes, &sums)};
    for (uint32_t number = 0; ticks && labels && sums && number < table->count; number++) {
        const char *entry = table->entries + number * table->entry_bytes;
        if (word_at(entry + sums_at)) {
            memcpy(ticks, entry + sizeof(uint64_t), sizeof(int64_t));
            memcpy(labels, entry + LABELS_AT, label_bytes);
            memcpy(sums, entry + sums_at, sum_bytes);
            ticks += sizeof(int64_t), labels += label_bytes, sums += sum_bytes;
        }
    }
    return packed(parts, 3);
}

/* The viewers of an audience that were seen: numbers of addresses and profiles, first and last times. */
static PyObject *viewers_of(const Audience *audience) {
    const Viewer *viewers = (const Viewer *)audience->viewers.entries, *end = viewers + audience->viewers.count;
    size_t count = 0;
    for (const Viewer *viewer = viewers; viewer < end; viewer++)
        count += viewer->last > 0;
    uint32_t *addresses, *profiles;
    int64_t *first, *last;
    PyObject *parts[] = {make_rows(count, sizeof *addresses, &addresses), make_rows(count, sizeof *profiles, &profiles),
                         make_rows(count, sizeof *first, &first), make_rows(count, sizeof *last, &last)};
    for (const Viewer *viewer = viewers; addresses && profiles && first && last && viewer < end; viewer++)
        if (viewer->last) {
            *addresses++ = viewer->address;
            *profiles++ = viewer->profile;
            *first++ = viewer->first;
            *last++ = viewer->last;
        }
    return packed(parts, 4);
}

/* The keys of all entries. */
static PyObject *keys_of(const Table *table) {
    char *at;
    PyObject *keys = make_rows(table->count, table->key_bytes, &at);
    for (uint32_t number = 0; at && number < table->count; number++, at += table->key_bytes)
        memcpy(at, table->entries + number * table->entry_bytes + sizeof(uint64_t), table->key_bytes);
    return keys;
}

/* Of each audience its profiles and its viewers. */
static PyObject *all_viewers_of(const Scanner *self) {
    PyObject *found[MOST_AUDIENCES];
    for (size_t each = 0; each < self->audience_count; each++) {
        PyObject *parts[] = {keys_of(&self->audiences[each].profiles), viewers_of(&self->audiences[each])};
        found[each] = packed(parts, 2);
    }
    return packed(found, (Py_ssize_t)self->audience_count);
}

static PyObject *all_groups_of(const Scanner *self) {
    PyObject *found[MOST_CUBES];
    for (size_t cube = 0; cube < self->cube_count; cube++)
        found[cube] = groups_of(&self->cubes[cube]);
    return packed(found, (Py_ssize_t)self->cube_count);
}

static PyObject *ignored_of(const Scanner *self) {
    PyObject *counts = PyTuple_New((Py_ssize_t)self->field_count);
    for (size_t field = 0; counts && field < self->field_count; field++) {
        PyObject *count = PyLong_FromUnsignedLongLong(self->ignored[field]);
        if (!count || PyTuple_SetItem(counts, (Py_ssize_t)field, count))
            Py_CLEAR(counts);
    }
    return counts;
}

static PyObject *scanner_close(PyObject *object, PyObject *Py_UNUSED(none)) {
    Scanner *self = (Scanner *)object;
    if (!is_free(self))
        return NULL;
    PyObject *parts[] = {
        strings_of(self),
        all_groups_of(self),
        keys_of(&self->addresses),
        all_viewers_of(self),
        Py_BuildValue("(KKK)", (unsigned long long)self->rejects[NO_STREAM],
                      (unsigned long long)self->rejects[NOT_ALLOWED], (unsigned long long)self->rejects[TOO_OLD]),
        ignored_of(self),
        Py_BuildValue("(LL)", (long long)self->oldest_ms_unseen, (long long)self->newest_ms_unseen),
    };
    release(self);
    return packed(parts, 7);
}

/* BLAKE2b (RFC 7693), of one block behind the key's */

static const uint64_t IV[8] = {0x6a09e667f3bcc908u, 0xbb67ae8584caa73bu, 0x3c6ef372fe94f82bu, 0xa54ff53a5f1d36f1u,
                               0x510e527fade682d1u, 0x9b05688c2b3e6c1fu, 0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u};
static const uint8_t SIGMA[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};
#define BLOCK_BYTES 128
#define DIGEST_BYTES 8

#define MIX(a, b, c, d, x, y)                                                                                          \
    do {                                                                                                               \
        v[a] += v[b] + (x), v[d] = ROTATED(v[d] ^ v[a], 32), v[c] += v[d], v[b] = ROTATED(v[b] ^ v[c], 40);            \
        v[a] += v[b] + (y), v[d] = ROTATED(v[d] ^ v[a], 48), v[c] += v[d], v[b] = ROTATED(v[b] ^ v[c], 1);             \
    } while (0)

static uint64_t little_word(const unsigned char *bytes) {
    uint64_t word = 0;
    for (int place = 7; place >= 0; place--)
        word = word << 8 | bytes[place];
    return word;
}

/* Compress a block of these words, the last for an address. Inlined, so that words that are zero cost nothing. */
static inline __attribute__((always_inline)) void compress(uint64_t state[8], const uint64_t words[16], uint64_t bytes,
                                                           int last) {
    uint64_t v[16];
    for (int each = 0; each < 8; each++)
        v[each] = state[each], v[each + 8] = IV[each];
    v[12] ^= bytes;
    if (last)
        v[14] = ~v[14];
#pragma GCC unroll 12 /* so that which words are mixed is known */
    for (int round = 0; round < 12; round++) {
        const uint8_t *s = SIGMA[round % 10];
        MIX(0, 4, 8, 12, words[s[0]], words[s[1]]);
        MIX(1, 5, 9, 13, words[s[2]], words[s[3]]);
        MIX(2, 6, 10, 14, words[s[4]], words[s[5]]);
        MIX(3, 7, 11, 15, words[s[6]], words[s[7]]);
        MIX(0, 5, 10, 15, words[s[8]], words[s[9]]);
        MIX(1, 6, 11, 12, words[s[10]], words[s[11]]);
        MIX(2, 7, 8, 13, words[s[12]], words[s[13]]);
        MIX(3, 4, 9, 14, words[s[14]], words[s[15]]);
    }
    for (int each = 0; each < 8; each++)
        state[each] ^= v[each] ^ v[each + 8];
}

/* Begin with a key, which is the same for all. */
static void begin_keyed(uint64_t state[8], const unsigned char *key, size_t length) {
    unsigned char block[BLOCK_BYTES] = {0};
    uint64_t words[16];
    memcpy(state, IV, sizeof IV);
    state[0] ^= 0x01010000u ^ (uint64_t)length << 8 ^ DIGEST_BYTES;
    if (!length)
        return;
    memcpy(block, key, length);
    for (int each = 0; each < 16; each++)
        words[each] = little_word(block + each * 8);
    compress(state, words, BLOCK_BYTES, 0);
}

static void hash_all(const unsigned char *addresses, size_t count, const unsigned char *key, size_t key_length,
                     unsigned char *digests) {
    uint64_t keyed[8];
    begin_keyed(keyed, key, key_length);
    size_t before = key_length ? BLOCK_BYTES : 0;
    for (size_t each = 0; each < count; each++, addresses += ADDRESS_BYTES, digests += DIGEST_BYTES) {
        int is_mapped = !memcmp(addresses, MAPPED, sizeof MAPPED);
        uint64_t first = little_word(addresses), second = little_word(addresses + 8);
        const uint64_t words[16] = {is_mapped ? second >> 32 : first, is_mapped ? 0 : second};
        uint64_t state[8];
        memcpy(state, keyed, sizeof state);
        compress(state, words, before + (is_mapped ? ADDRESS_BYTES - sizeof MAPPED : ADDRESS_BYTES), 1);
        for (int place = 0; place < DIGEST_BYTES; place++)
            digests[place] = (unsigned char)(state[0] >> 8 * place);
    }
}

static PyObject *hash_addresses(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *held;
    const char *key;
    char *addresses;
    Py_ssize_t length, key_length;
    if (!PyArg_ParseTuple(args, "O!y#", &PyBytes_Type, &held, &key, &key_length) ||
        PyBytes_AsStringAndSize(held, &addresses, &length) < 0)
        return NULL;
    if (length % ADDRESS_BYTES || key_length > 64) {
        PyErr_SetString(PyExc_ValueError, "addresses have 16 bytes each, and a key at most 64");
        return NULL;
    }
    char *digests;
    size_t count = (size_t)length / ADDRESS_BYTES;
    PyObject *found = make_rows(count, DIGEST_BYTES, &digests);
    if (!found)
        return NULL;
    Py_BEGIN_ALLOW_THREADS /* bytes do not change, and nobody else has the new ones yet */
    hash_all((const unsigned char *)addresses, count, (const unsigned char *)key, (size_t)key_length,
             (unsigned char *)digests);
    Py_END_ALLOW_THREADS
    return found;
}

static PyMethodDef METHODS[] = {
    {"take", scanner_take, METH_VARARGS, "Count plain lines; what is left, with the lines taken before it."},
    {"admit", scanner_admit, METH_VARARGS, "Say whether a stream is counted, if only admitted ones are."},
    {"rows", scanner_rows, METH_NOARGS, "Return how many groups of a kind there are, or viewers."},
    {"events", scanner_events, METH_NOARGS, "Return of each text how many events have it in the field that is counted."},
    {"close", scanner_close, METH_NOARGS, "Give out what was counted, and end."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot SLOTS[] = {
    {Py_tp_doc, "Adds up the plain lines of one file."},
    {Py_tp_new, scanner_new},
    {Py_tp_dealloc, scanner_dealloc},
    {Py_tp_methods, METHODS},
    {0, NULL},
};

static PyType_Spec SPEC = {
    .name = "cdn77_exporter.core.scan._scan.Scanner",
    .basicsize = sizeof(Scanner),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = SLOTS,
};

static int fill_module(PyObject *module) {
    PyObject *type = PyType_FromSpec(&SPEC);
    int failed = !type || PyModule_AddObjectRef(module, "Scanner", type);
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyMethodDef FUNCTIONS[] = {
    {"hash_addresses", hash_addresses, METH_VARARGS, "Keyed BLAKE2b of 8 bytes, of each address."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot MODULE_SLOTS[] = {{Py_mod_exec, fill_module}, {0, NULL}};

static PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "_scan", .m_doc = "The compiled scan of plain lines.", .m_methods = FUNCTIONS,
    .m_slots = MODULE_SLOTS
};

PyMODINIT_FUNC PyInit__scan(void) { return PyModuleDef_Init(&MODULE); }
