/* Sums up the plain lines of a log file without making an object of any of them.
 *
 * This is the decoder's fast path, and it may be missing: whatever it does not take is left to decode.py, which knows
 * all forms of a line and alone decides what is wrong with one. So the rule here is: a line that is not the plainest
 * form of an event, in any respect, is not taken. What it takes it only adds up by the bytes that stand in the line;
 * what they mean (devices, labels, streams that are not allowed) is looked up in Python, once for each different text.
 *
 * Plain is: one flat object without blanks, in ASCII; each field that counts at most once, without escapes, a count
 * from 0 to 2^53, a UTC timestamp of the calendar within the limits, an address, and a path that begins with a stream.
 *
 * Everything is bounded and can fail (no memory, a full table): then lines are not taken, and nothing is lost.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MOST_COUNT ((uint64_t)1 << 53)  /* lines.MAX_COUNT */
#define MOST_SUM ((uint64_t)1 << 62)
#define MOST_ENTRIES ((uint32_t)1 << 17)  /* of each table */
#define MOST_TEXT 512                     /* bytes of a text that is remembered */
#define MOST_ARENA ((uint32_t)1 << 23)    /* bytes of all texts */
#define NAMES 64                          /* members of a line whose names are remembered */
#define NAME_BYTES 46

#define STREAM_BYTES 32  /* of hex digits, between two slashes: decode.DEFAULT_STREAM_PATTERN */

/* The fields that count. Those up to POP are texts, those up to IP must be there. */
enum { TIMESTAMP, PATH, IP, COUNTRY, AGENT, CACHE, POP, TEXTS, WAIT = TEXTS, CDN, STATUS, SIZE, FIELDS, SKIPPED = FIELDS };
#define NEEDED (1u << TIMESTAMP | 1u << PATH | 1u << IP)

static const char *const FIELD_NAMES[FIELDS] = {
    [TIMESTAMP] = "timestamp",
    [PATH] = "clientRequestPath",
    [IP] = "clientIP",
    [COUNTRY] = "clientCountry",
    [AGENT] = "clientRequestUserAgent",
    [CACHE] = "cacheStatus",
    [POP] = "locationID",
    [WAIT] = "timeToFirstByteMs",
    [CDN] = "resourceID",
    [STATUS] = "responseStatus",
    [SIZE] = "responseBytes",
};

typedef struct {
    const char *begin;
    uint32_t length;
} Span;

/* A line's fields; one that is missing or null is an empty text or 0, which count the same. */
typedef struct {
    Span texts[TEXTS];
    uint64_t counts[FIELDS - TEXTS];
    unsigned seen;
} Line;

/* The name of the n-th member of the line before, as it stood there: `"name":`. Lines mostly have the same ones. */
typedef struct {
    uint8_t length, field;
    char text[NAME_BYTES];
} Name;

/* Entries in the order in which they came, and an index of them by open addressing. Each begins with its hash. */
typedef struct {
    char *entries;
    uint32_t *slots; /* an entry's number and one; 0 where there is none */
    uint32_t count, room;
    size_t entry_bytes;
} Table;

typedef struct {
    uint64_t hash;
    uint32_t begin, length; /* in the arena */
    int admitted;           /* as a stream */
} Text;

typedef struct {
    uint64_t hash;
    struct {
        int64_t tick;
        uint64_t cdn, status;
        uint32_t stream, cache, pop, none; /* texts */
    } key;
    uint64_t requests, bytes, wait, waits;
} Group;

typedef struct {
    uint64_t hash;
    struct {
        int64_t tick;
        uint32_t stream, ip, agent, country; /* texts */
    } key;
    int64_t first, last;
} Viewer;

typedef struct {
    uint64_t taken; /* lines before it */
    size_t begin, end;
} Run;

typedef struct {
    PyObject_HEAD
    int64_t tick_seconds, oldest_ms, latest_ms;
    size_t line_bytes;
    uint64_t seed[2];
    Table texts, groups, viewers;
    char *arena;
    uint32_t arena_used, arena_room;
    Name names[NAMES];
    Run *runs;
    size_t run_count, run_room;
    int admitted_only; /* streams that have not been admitted are not taken */
    int busy, closed;
} Scanner;

/* Hashing: SipHash-1-3 with a secret, since anyone may invent streams and User-Agents that fall into one slot. */

#define ROTATE(x, bits) ((x) << (bits) | (x) >> (64 - (bits)))
#define ROUND                                                                                                          \
    do {                                                                                                               \
        a += b, c += d, b = ROTATE(b, 13) ^ a, d = ROTATE(d, 16) ^ c, a = ROTATE(a, 32);                               \
        c += b, a += d, b = ROTATE(b, 17) ^ c, d = ROTATE(d, 21) ^ a, c = ROTATE(c, 32);                               \
    } while (0)

static uint64_t
hash_of(const uint64_t seed[2], const char *bytes, size_t length)
{
    uint64_t a = seed[0] ^ 0x736f6d6570736575u, b = seed[1] ^ 0x646f72616e646f6du;
    uint64_t c = seed[0] ^ 0x6c7967656e657261u, d = seed[1] ^ 0x7465646279746573u;
    uint64_t word, last = (uint64_t)length << 56;
    size_t left = length;
    for (; left >= 8; bytes += 8, left -= 8) {
        memcpy(&word, bytes, 8);
        d ^= word;
        ROUND;
        a ^= word;
    }
    word = 0;
    memcpy(&word, bytes, left);
    last ^= word; /* the machine's own byte order: the hash never leaves this process */
    d ^= last;
    ROUND;
    a ^= last;
    c ^= 0xff;
    ROUND;
    ROUND;
    ROUND;
    return a ^ b ^ c ^ d;
}

/* Tables */

/* Room for one more entry; 0 when there is none. The index has at least twice as many slots as there are entries. */
static int
make_room(Table *table)
{
    if (table->count < table->room)
        return 1;
    if (table->room >= MOST_ENTRIES)
        return 0;
    uint32_t room = table->room ? table->room * 2 : 512;
    char *entries = realloc(table->entries, room * table->entry_bytes);
    if (!entries)
        return 0;
    table->entries = entries;
    uint32_t *slots = calloc((size_t)room * 2, sizeof *slots);
    if (!slots)
        return 0;
    for (uint32_t number = 0; number < table->count; number++) {
        uint64_t hash;
        memcpy(&hash, entries + number * table->entry_bytes, sizeof hash);
        uint32_t slot = (uint32_t)hash & (room * 2 - 1);
        while (slots[slot])
            slot = (slot + 1) & (room * 2 - 1);
        slots[slot] = number + 1;
    }
    free(table->slots);
    table->slots = slots;
    table->room = room;
    return 1;
}

/* The slot of the entry with this hash and key, or the free one where it belongs. */
#define FIND_SLOT(slot, table, hash_wanted, type, is_same)                                                             \
    do {                                                                                                               \
        uint32_t mask = (table)->room * 2 - 1;                                                                         \
        for (slot = (uint32_t)(hash_wanted) & mask; (table)->slots[slot]; slot = (slot + 1) & mask) {                  \
            type *entry = (type *)(table)->entries + ((table)->slots[slot] - 1);                                       \
            if (entry->hash == (hash_wanted) && (is_same))                                                             \
                break;                                                                                                 \
        }                                                                                                              \
    } while (0)

static void *
add_entry(Table *table, uint32_t slot)
{
    table->slots[slot] = ++table->count;
    void *entry = table->entries + (size_t)(table->count - 1) * table->entry_bytes;
    memset(entry, 0, table->entry_bytes);
    return entry;
}

/* The number of a text, which is remembered; -1 when that cannot be done. */
static int64_t
number_of(Scanner *self, Span span, int add)
{
    if (span.length > MOST_TEXT)
        return -1;
    uint64_t hash = hash_of(self->seed, span.begin, span.length);
    Table *table = &self->texts;
    uint32_t slot;
    /* Room is made first, so that a slot that has been found stays the right one. */
    int has_room = make_room(table);
    if (!table->room)
        return -1;
    FIND_SLOT(slot, table, hash, Text,
              entry->length == span.length && !memcmp(self->arena + entry->begin, span.begin, span.length));
    if (table->slots[slot])
        return table->slots[slot] - 1;
    if (!has_room || !add)
        return -1;
    if (self->arena_room - self->arena_used < span.length) {
        uint32_t room = self->arena_room ? self->arena_room * 2 : 1 << 16;
        char *arena = room <= MOST_ARENA ? realloc(self->arena, room) : NULL;
        if (!arena)
            return -1;
        self->arena = arena;
        self->arena_room = room;
    }
    Text *text = add_entry(table, slot);
    text->hash = hash;
    text->begin = self->arena_used;
    text->length = span.length;
    memcpy(self->arena + text->begin, span.begin, span.length);
    self->arena_used += span.length;
    return table->count - 1;
}

/* The entry of a key, made when there is none; NULL when that cannot be done. */
#define DEFINE_ENTRY_OF(name, type)                                                                                    \
    static type *name(Scanner *self, Table *table, const type *wanted)                                                 \
    {                                                                                                                  \
        uint64_t hash = hash_of(self->seed, (const char *)&wanted->key, sizeof wanted->key);                           \
        uint32_t slot;                                                                                                 \
        int has_room = make_room(table);                                                                               \
        if (!table->room)                                                                                              \
            return NULL;                                                                                               \
        FIND_SLOT(slot, table, hash, type, !memcmp(&entry->key, &wanted->key, sizeof entry->key));                     \
        if (table->slots[slot])                                                                                        \
            return (type *)table->entries + (table->slots[slot] - 1);                                                  \
        if (!has_room)                                                                                                 \
            return NULL;                                                                                               \
        type *added = add_entry(table, slot);                                                                          \
        added->hash = hash;                                                                                            \
        added->key = wanted->key;                                                                                      \
        return added;                                                                                                  \
    }
DEFINE_ENTRY_OF(group_of, Group)
DEFINE_ENTRY_OF(viewer_of, Viewer)

/* JSON. Each of these gives the place behind what it has read, or NULL when it is not of the plain form. A newline lies
 * at `end - 1`, and nothing reads past a newline. */

#define ONES 0x0101010101010101u
#define HIGHS 0x8080808080808080u

/* The first byte that is not simply a character of a text: a quote, a backslash, a control character or no ASCII. */
static inline const char *
stop_of_text(const char *at, const char *end)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    /* Eight bytes at once; the lowest flag that is set is right, those above it may not be. */
    for (; end - at >= 8; at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
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

static inline int
is_digit(char sign)
{
    return sign >= '0' && sign <= '9';
}

static inline const char *
read_text(const char *at, const char *end, Span *text)
{
    if (*at != '"')
        return NULL;
    const char *stop = stop_of_text(at + 1, end);
    if (*stop != '"')
        return NULL;
    text->begin = at + 1;
    text->length = (uint32_t)(stop - at - 1);
    return stop + 1;
}

static inline const char *
read_null(const char *at, const char *end)
{
    return end - at > 4 && !memcmp(at, "null", 4) ? at + 4 : NULL;
}

static inline const char *
read_count(const char *at, uint64_t *count)
{
    const char *begin = at;
    uint64_t value = 0;
    while (is_digit(*at) && at - begin < 17)
        value = value * 10 + (uint64_t)(*at++ - '0');
    if (at == begin || (*begin == '0' && at - begin > 1) || value > MOST_COUNT)
        return NULL;
    *count = value;
    return at;
}

/* Four hex digits that are no half of a pair: half of one alone is an error, and pairs are rare. */
static int
is_escaped_character(const char *at)
{
    for (int place = 0; place < 4; place++)
        if (!is_digit(at[place]) && !((at[place] | 32) >= 'a' && (at[place] | 32) <= 'f'))
            return 0;
    return !((at[0] | 32) == 'd' && at[1] != '0' && at[1] != '1' && !(at[1] >= '2' && at[1] <= '7'));
}

static const char *
skip_text(const char *at, const char *end)
{
    for (at = stop_of_text(at + 1, end); *at == '\\'; at = stop_of_text(at, end)) {
        if (at[1] == 'u' && end - at > 6 && is_escaped_character(at + 2))
            at += 6;
        else if (at[1] >= ' ' && strchr("\"\\/bfnrt", at[1]))
            at += 2;
        else
            return NULL;
    }
    return *at == '"' ? at + 1 : NULL;
}

static const char *
skip_number(const char *at)
{
    at += *at == '-';
    const char *begin = at;
    while (is_digit(*at))
        at++;
    if (at == begin || (*begin == '0' && at - begin > 1))
        return NULL;
    if (*at == '.') {
        begin = ++at;
        while (is_digit(*at))
            at++;
        if (at == begin)
            return NULL;
    }
    return at;
}

static inline const char *
skip_value(const char *at, const char *end)
{
    if (*at == '"')
        return skip_text(at, end);
    if (is_digit(*at) || *at == '-')
        return skip_number(at);
    if (*at == 't')
        return end - at > 4 && !memcmp(at, "true", 4) ? at + 4 : NULL;
    if (*at == 'f')
        return end - at > 5 && !memcmp(at, "false", 5) ? at + 5 : NULL;
    return read_null(at, end);
}

static const char *
read_name(const char *at, const char *end, Name *name)
{
    Span text;
    const char *stop = read_text(at, end, &text);
    if (!stop || *stop != ':')
        return NULL;
    name->field = SKIPPED;
    for (uint8_t field = 0; field < FIELDS; field++)
        if (strlen(FIELD_NAMES[field]) == text.length && !memcmp(FIELD_NAMES[field], text.begin, text.length))
            name->field = field;
    size_t length = (size_t)(stop + 1 - at);
    name->length = length <= NAME_BYTES ? (uint8_t)length : 0;
    memcpy(name->text, at, name->length);
    return stop + 1;
}

static const char *
read_line(Scanner *self, const char *at, const char *end, Line *line)
{
    memset(line, 0, sizeof *line);
    if (*at++ != '{')
        return NULL;
    for (int member = 0; member < NAMES; member++) {
        Name *name = &self->names[member];
        if (name->length && end - at > name->length && !memcmp(at, name->text, name->length))
            at += name->length;
        else if (!(at = read_name(at, end, name)))
            return NULL;
        uint8_t field = name->field;
        if (field == SKIPPED) {
            at = skip_value(at, end);
        }
        else {
            if (line->seen & 1u << field)
                return NULL;
            line->seen |= 1u << field;
            if (*at == 'n')
                at = field > IP ? read_null(at, end) : NULL;
            else if (field < TEXTS)
                at = read_text(at, end, &line->texts[field]);
            else
                at = read_count(at, &line->counts[field - TEXTS]);
        }
        if (!at)
            return NULL;
        if (*at == '}')
            return at[1] == '\n' && (line->seen & NEEDED) == NEEDED ? at + 1 : NULL;
        if (*at++ != ',')
            return NULL;
    }
    return NULL;
}

/* What the texts must be */

static inline int
number_at(const char *at, int digits)
{
    int value = 0;
    while (digits--) {
        if (!is_digit(*at))
            return -1;
        value = value * 10 + (*at++ - '0');
    }
    return value;
}

/* Unix milliseconds of `2026-01-10T14:49:28.299Z`, what is finer cut off; -1 for other forms and before 1970. */
static int64_t
read_time(Span text)
{
    static const int DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const char *at = text.begin, *end = at + text.length;
    if (text.length < 20 || at[4] != '-' || at[7] != '-' || at[10] != 'T' || at[13] != ':' || at[16] != ':')
        return -1;
    int year = number_at(at, 4), month = number_at(at + 5, 2), day = number_at(at + 8, 2);
    int hour = number_at(at + 11, 2), minute = number_at(at + 14, 2), second = number_at(at + 17, 2);
    if (year < 1970 || month < 1 || month > 12 || day < 1 || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
        second < 0 || second > 59)
        return -1;
    int leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (day > DAYS[month - 1] + (leap && month == 2))
        return -1;
    int milliseconds = 0;
    at += 19;
    if (*at == '.') {
        int digits = 0;
        for (at++; at < end && is_digit(*at); at++, digits++)
            if (digits < 3)
                milliseconds = milliseconds * 10 + (*at - '0');
        if (digits < 1 || digits > 9)
            return -1;
        for (; digits < 3; digits++)
            milliseconds *= 10;
    }
    if (!(end - at == 1 && *at == 'Z') && !(end - at == 6 && !memcmp(at, "+00:00", 6)))
        return -1;
    int before = year - 1; /* the days before this year, from year 1 on, of which 1970 begins at 719162 */
    int64_t days = 365 * (int64_t)before + before / 4 - before / 100 + before / 400 - 719162 + day - 1;
    for (int each = 1; each < month; each++)
        days += DAYS[each - 1] + (leap && each == 2);
    return ((days * 24 + hour) * 60 + minute) * 60000 + second * 1000 + milliseconds;
}

static int
is_ipv4(Span text)
{
    const char *at = text.begin, *end = at + text.length;
    for (int part = 0; part < 4; part++) {
        if (part && (at == end || *at++ != '.'))
            return 0;
        const char *begin = at;
        int value = 0;
        while (at < end && is_digit(*at) && at - begin < 3)
            value = value * 10 + (*at++ - '0');
        if (at == begin || value > 255 || (*begin == '0' && at - begin > 1))
            return 0;
    }
    return at == end;
}

/* Groups of hex digits with at most one gap; zones and IPv4 at the end are left to Python. */
static int
is_ipv6(Span text)
{
    const char *at = text.begin, *end = at + text.length;
    int groups = 0, gap = 0;
    if (end - at >= 2 && at[0] == ':' && at[1] == ':') {
        gap = 1;
        at += 2;
    }
    while (at < end) {
        const char *begin = at;
        while (at < end && (is_digit(*at) || ((*at | 32) >= 'a' && (*at | 32) <= 'f')))
            at++;
        if (at == begin || at - begin > 4 || ++groups > 8)
            return 0;
        if (at == end)
            break;
        if (*at++ != ':' || at == end)
            return 0;
        if (*at == ':') {
            if (gap++)
                return 0;
            at++;
        }
    }
    return gap ? groups < 8 : groups == 8;
}

/* A path's stream; empty when the path does not begin with one. */
static Span
stream_of(Span path)
{
    Span none = {path.begin, 0}, stream = {path.begin + 1, STREAM_BYTES};
    if (path.length < STREAM_BYTES + 2 || path.begin[0] != '/' || path.begin[STREAM_BYTES + 1] != '/')
        return none;
    for (int place = 0; place < STREAM_BYTES; place++)
        if (!is_digit(stream.begin[place]) && !(stream.begin[place] >= 'a' && stream.begin[place] <= 'f'))
            return none;
    return stream;
}

/* Counts a line; 0 when it is not taken, and then nothing has changed but what is remembered. */
static int
count_line(Scanner *self, const Line *line)
{
    int64_t at = read_time(line->texts[TIMESTAMP]);
    if (at <= 0 || at < self->oldest_ms || at > self->latest_ms)
        return 0;
    Span stream = stream_of(line->texts[PATH]);
    if (!stream.length || !(is_ipv4(line->texts[IP]) || is_ipv6(line->texts[IP])))
        return 0;
    int64_t numbers[TEXTS]; /* of PATH: the stream's */
    numbers[PATH] = number_of(self, stream, !self->admitted_only);
    if (numbers[PATH] < 0 || (self->admitted_only && !((Text *)self->texts.entries)[numbers[PATH]].admitted))
        return 0;
    for (int field = IP; field < TEXTS; field++)
        if ((numbers[field] = number_of(self, line->texts[field], 1)) < 0)
            return 0;

    Group group;
    Viewer viewer;
    memset(&group, 0, sizeof group); /* keys are compared by their bytes */
    memset(&viewer, 0, sizeof viewer);
    group.key.tick = viewer.key.tick = (at / 1000 / self->tick_seconds + 1) * self->tick_seconds;
    group.key.stream = viewer.key.stream = (uint32_t)numbers[PATH];
    group.key.cdn = line->counts[CDN - TEXTS];
    group.key.status = line->counts[STATUS - TEXTS];
    group.key.cache = (uint32_t)numbers[CACHE];
    group.key.pop = (uint32_t)numbers[POP];
    viewer.key.ip = (uint32_t)numbers[IP];
    viewer.key.agent = (uint32_t)numbers[AGENT];
    viewer.key.country = (uint32_t)numbers[COUNTRY];

    /* A group that is made here and then not used stays without requests, and is not given out. */
    Group *sums = group_of(self, &self->groups, &group);
    Viewer *seen = sums ? viewer_of(self, &self->viewers, &viewer) : NULL;
    if (!seen || sums->bytes > MOST_SUM || sums->wait > MOST_SUM)
        return 0;
    uint64_t wait = line->counts[WAIT - TEXTS];
    sums->requests += 1;
    sums->bytes += line->counts[SIZE - TEXTS];
    sums->wait += wait;
    sums->waits += wait > 0;
    if (!seen->last || at < seen->first)
        seen->first = at;
    if (at > seen->last)
        seen->last = at;
    return 1;
}

/* Lines */

static Run *
next_run(Scanner *self, uint64_t taken, size_t begin)
{
    if (self->run_count == self->run_room) {
        size_t room = self->run_room ? self->run_room * 2 : 64;
        Run *runs = realloc(self->runs, room * sizeof *runs);
        if (!runs)
            return NULL;
        self->runs = runs;
        self->run_room = room;
    }
    Run *run = &self->runs[self->run_count++];
    run->taken = taken;
    run->begin = run->end = begin;
    return run;
}

/* Takes what it can of the lines; `runs` are then what is left, with the lines taken before each. 0 without memory. */
static int
take_lines(Scanner *self, const char *data, size_t begin, size_t length)
{
    const char *end = data + length;
    uint64_t taken = 0;
    Run *run = NULL; /* that ends where the line begins */
    self->run_count = 0;
    for (const char *at = data + begin; at < end;) {
        Line line;
        const char *newline = read_line(self, at, end, &line);
        if (newline && (size_t)(newline - at) <= self->line_bytes && count_line(self, &line)) {
            taken++;
            run = NULL;
        }
        else {
            if (!newline)
                newline = memchr(at, '\n', (size_t)(end - at));
            if (!run) {
                if (!(run = next_run(self, taken, (size_t)(at - data))))
                    return 0;
                taken = 0;
            }
            run->end = (size_t)(newline + 1 - data);
        }
        at = newline + 1;
    }
    return !taken || next_run(self, taken, length) != NULL;
}

/* Python */

static void
release(Scanner *self)
{
    Table *tables[] = {&self->texts, &self->groups, &self->viewers};
    for (int each = 0; each < 3; each++) {
        free(tables[each]->entries);
        free(tables[each]->slots);
        tables[each]->entries = NULL;
        tables[each]->slots = NULL;
        tables[each]->count = tables[each]->room = 0;
    }
    free(self->arena);
    free(self->runs);
    self->arena = NULL;
    self->runs = NULL;
    self->arena_used = self->arena_room = 0;
    self->run_count = self->run_room = 0;
    self->closed = 1;
}

/* Python's own hash of bytes is keyed with the process's secret. */
static int
set_seed(Scanner *self)
{
    static const char *const PARTS[] = {"one half of the seed", "the other half of the seed"};
    for (int half = 0; half < 2; half++) {
        PyObject *bytes = PyBytes_FromString(PARTS[half]);
        if (!bytes)
            return 0;
        self->seed[half] = (uint64_t)PyObject_Hash(bytes);
        Py_DECREF(bytes);
    }
    return !PyErr_Occurred();
}

static PyObject *
scanner_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *NAMES_OF[] = {"tick_seconds", "line_bytes", "oldest_ms", "latest_ms", "admitted_only", NULL};
    long long tick_seconds, line_bytes, oldest_ms, latest_ms;
    int admitted_only;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "LLLLp", NAMES_OF, &tick_seconds, &line_bytes, &oldest_ms,
                                     &latest_ms, &admitted_only))
        return NULL;
    if (tick_seconds < 1 || line_bytes < 0) {
        PyErr_SetString(PyExc_ValueError, "ticks have a length, and lines one of at least 0");
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Scanner *self = (Scanner *)allocate(type, 0); /* all zeros */
    if (!self)
        return NULL;
    self->tick_seconds = tick_seconds;
    self->line_bytes = (size_t)line_bytes;
    self->oldest_ms = oldest_ms;
    self->latest_ms = latest_ms;
    self->admitted_only = admitted_only;
    self->texts.entry_bytes = sizeof(Text);
    self->groups.entry_bytes = sizeof(Group);
    self->viewers.entry_bytes = sizeof(Viewer);
    if (!set_seed(self)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void
scanner_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    release((Scanner *)object);
    freefunc deallocate = (freefunc)PyType_GetSlot(type, Py_tp_free);
    deallocate(object);
    Py_DECREF(type);
}

/* Whether the scanner can be used now: not by two threads at once, and not after its end. */
static int
is_free(const Scanner *self)
{
    if (!self->busy && !self->closed)
        return 1;
    PyErr_SetString(PyExc_RuntimeError, self->closed ? "the scanner is closed" : "the scanner is in use");
    return 0;
}

static PyObject *
scanner_take(PyObject *object, PyObject *args)
{
    Scanner *self = (Scanner *)object;
    PyObject *piece;
    Py_ssize_t begin, length;
    char *data;
    if (!PyArg_ParseTuple(args, "O!n", &PyBytes_Type, &piece, &begin) || !is_free(self) ||
        PyBytes_AsStringAndSize(piece, &data, &length) < 0)
        return NULL;
    if (begin < 0 || begin >= length || data[length - 1] != '\n') {
        PyErr_SetString(PyExc_ValueError, "there must be lines, each with its newline");
        return NULL;
    }
    int done;
    self->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    done = take_lines(self, data, (size_t)begin, (size_t)length); /* bytes do not change, and the caller has them */
    Py_END_ALLOW_THREADS
    self->busy = 0;
    if (!done)
        return PyErr_NoMemory();
    PyObject *runs = PyList_New((Py_ssize_t)self->run_count);
    for (size_t each = 0; runs && each < self->run_count; each++) {
        const Run *run = &self->runs[each];
        PyObject *entry = Py_BuildValue("(Knn)", (unsigned long long)run->taken, (Py_ssize_t)run->begin,
                                        (Py_ssize_t)run->end);
        if (!entry)
            Py_CLEAR(runs);
        else
            PyList_SetItem(runs, (Py_ssize_t)each, entry);
    }
    return runs;
}

static PyObject *
scanner_admit(PyObject *object, PyObject *args)
{
    Scanner *self = (Scanner *)object;
    const char *stream;
    Py_ssize_t length;
    if (!PyArg_ParseTuple(args, "s#", &stream, &length) || !is_free(self))
        return NULL;
    Span span = {stream, (uint32_t)length};
    int64_t number = length == STREAM_BYTES ? number_of(self, span, 1) : -1;
    if (number >= 0)
        ((Text *)self->texts.entries)[number].admitted = 1;
    Py_RETURN_NONE;
}

/* The list of a tick in `ticks`, made when there is none; borrowed. */
static PyObject *
list_of(PyObject *ticks, int64_t tick)
{
    PyObject *list = NULL, *key = PyLong_FromLongLong(tick);
    if (key && !(list = PyDict_GetItemWithError(ticks, key)) && !PyErr_Occurred() && (list = PyList_New(0))) {
        int failed = PyDict_SetItem(ticks, key, list);
        Py_DECREF(list);
        if (failed)
            list = NULL;
    }
    Py_XDECREF(key);
    return list;
}

static int
append(PyObject *ticks, int64_t tick, PyObject *entry)
{
    PyObject *list = entry ? list_of(ticks, tick) : NULL;
    int failed = !list || PyList_Append(list, entry);
    Py_XDECREF(entry);
    return !failed;
}

/* All texts as strings, by their numbers. */
static PyObject *
strings_of(const Scanner *self)
{
    PyObject *strings = PyTuple_New(self->texts.count);
    for (uint32_t number = 0; strings && number < self->texts.count; number++) {
        const Text *text = (const Text *)self->texts.entries + number;
        PyObject *string = PyUnicode_DecodeASCII(self->arena + text->begin, text->length, NULL);
        if (!string)
            Py_CLEAR(strings);
        else
            PyTuple_SetItem(strings, number, string);
    }
    return strings;
}

#define STRING(number) PyTuple_GetItem(strings, (number))

static int
give_out(const Scanner *self, PyObject *strings, PyObject *groups, PyObject *viewers)
{
    for (uint32_t number = 0; number < self->groups.count; number++) {
        const Group *group = (const Group *)self->groups.entries + number;
        if (group->requests &&
            !append(groups, group->key.tick,
                    Py_BuildValue("(OKOOKKKKK)", STRING(group->key.stream), (unsigned long long)group->key.cdn,
                                  STRING(group->key.cache), STRING(group->key.pop),
                                  (unsigned long long)group->key.status, (unsigned long long)group->requests,
                                  (unsigned long long)group->bytes, (unsigned long long)group->wait,
                                  (unsigned long long)group->waits)))
            return 0;
    }
    for (uint32_t number = 0; number < self->viewers.count; number++) {
        const Viewer *viewer = (const Viewer *)self->viewers.entries + number;
        if (viewer->last &&
            !append(viewers, viewer->key.tick,
                    Py_BuildValue("(OOOOLL)", STRING(viewer->key.stream), STRING(viewer->key.ip),
                                  STRING(viewer->key.agent), STRING(viewer->key.country), (long long)viewer->first,
                                  (long long)viewer->last)))
            return 0;
    }
    return 1;
}

static PyObject *
scanner_close(PyObject *object, PyObject *Py_UNUSED(none))
{
    Scanner *self = (Scanner *)object;
    if (!is_free(self))
        return NULL;
    PyObject *strings = strings_of(self), *groups = PyDict_New(), *viewers = PyDict_New(), *found = NULL;
    if (strings && groups && viewers && give_out(self, strings, groups, viewers))
        found = PyTuple_Pack(2, groups, viewers);
    Py_XDECREF(strings);
    Py_XDECREF(groups);
    Py_XDECREF(viewers);
    release(self);
    return found;
}

static PyMethodDef METHODS[] = {
    {"take", scanner_take, METH_VARARGS, "Count plain lines; what is left, each with the lines taken before it."},
    {"admit", scanner_admit, METH_VARARGS, "Take lines of this stream, too, if only admitted ones are taken."},
    {"close", scanner_close, METH_NOARGS, "The groups and the viewers of all lines taken, by tick; ends the scanner."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot SLOTS[] = {
    {Py_tp_doc, "Sums up the plain lines of one file."},
    {Py_tp_new, scanner_new},
    {Py_tp_dealloc, scanner_dealloc},
    {Py_tp_methods, METHODS},
    {0, NULL},
};

static PyType_Spec SPEC = {
    .name = "cdn77_exporter.core._scan.Scanner",
    .basicsize = sizeof(Scanner),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = SLOTS,
};

static int
fill_module(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&SPEC);
    int failed = !type || PyModule_AddObjectRef(module, "Scanner", type);
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot MODULE_SLOTS[] = {{Py_mod_exec, fill_module}, {0, NULL}};

static PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_scan",
    .m_doc = "The compiled scan of plain lines.",
    .m_slots = MODULE_SLOTS,
};

PyMODINIT_FUNC
PyInit__scan(void)
{
    return PyModuleDef_Init(&MODULE);
}
