/* Sums up the plain lines of a log file without making an object of any of them.
 *
 * This is the decoder's fast path, and it may be missing: whatever it does not take is left to decode.py, which knows
 * all forms of a line and alone decides what is wrong with one. So the rule here is: a line that is not in any respect
 * the plainest form of an event is not taken. What is taken is added up by the bytes that stand in it; what they mean
 * (devices, labels) is looked up in Python, once for each different text.
 *
 * Plain is: one flat object without blanks, in ASCII; each field that counts at most once and without escapes, a count
 * from 0 to 2^53, a UTC timestamp of the calendar within the limits, an address, a path that begins with a stream.
 *
 * Everything is bounded and may fail (a full table, no memory): then a line is not taken, and nothing is lost.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MOST_COUNT ((uint64_t)1 << 53) /* lines.MAX_COUNT */
#define MOST_SUM ((uint64_t)1 << 62)
#define MOST_ENTRIES ((uint32_t)1 << 16)    /* of each table */
#define MOST_TEXT 512                       /* bytes of one that is remembered */
#define MOST_ARENA ((uint32_t)8 << 20)      /* bytes of all of them */
#define MOST_MEMBERS 64                     /* of a line */
#define NAME_BYTES 46                       /* of a name that is remembered, with its quotes and its colon */
#define STREAM_BYTES 32                     /* of hex digits between two slashes: decode.DEFAULT_STREAM_PATTERN */

/* The fields that count: first those that must be there, then other texts, then counts. */
enum { TIMESTAMP, PATH, IP, COUNTRY, AGENT, CACHE, POP, WAIT, CDN, STATUS, SIZE, SKIPPED };
#define TEXTS WAIT
#define NEEDED (1u << TIMESTAMP | 1u << PATH | 1u << IP)

static const char *const FIELDS[SKIPPED] = {
    "timestamp",    "clientRequestPath", "clientIP",   "clientCountry",  "clientRequestUserAgent", "cacheStatus",
    "locationID",   "timeToFirstByteMs", "resourceID", "responseStatus", "responseBytes",
};

typedef struct {
    const char *begin;
    uint32_t length;
} Span;

/* A line's fields. One that is missing or null is an empty text or 0: they count the same. */
typedef struct {
    Span texts[TEXTS];
    uint64_t counts[SKIPPED]; /* by field */
    unsigned seen;
} Line;

/* The name of the n-th member of the line before, as it stood there. Lines mostly have the same ones. */
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

/* The keys of these two lie behind the hash and are compared by their bytes. Texts are named by their numbers. */
typedef struct {
    uint64_t hash;
    int64_t tick;
    uint64_t cdn, status;
    uint32_t stream, cache, pop, none;
    uint64_t requests, bytes, wait, waits;
} Group;
#define GROUP_KEY (offsetof(Group, requests) - sizeof(uint64_t))

typedef struct {
    uint64_t hash;
    int64_t tick;
    uint32_t stream, ip, agent, country;
    int64_t first, last;
} Viewer;
#define VIEWER_KEY (offsetof(Viewer, first) - sizeof(uint64_t))

/* As they are given out: all that they hold but the hash. scan.py knows their order. */
#define GROUP_COLUMNS 10
#define VIEWER_COLUMNS 7

/* Lines that were not taken, as far as they stand together, and how many were taken before them. */
typedef struct {
    uint64_t taken;
    size_t begin, end;
} Run;

typedef struct {
    PyObject_HEAD
    long long tick_seconds, line_bytes, oldest_ms, latest_ms, secrets[2];
    int admitted_only; /* streams that have not been admitted are not taken */
    int busy, closed;
    Table texts, groups, viewers;
    char *arena;
    uint32_t arena_used, arena_room;
    Name names[MOST_MEMBERS];
    Run *runs;
    size_t run_count, run_room;
} Scanner;

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
        uint64_t word = 0;
        if (left >= 8)
            memcpy(&word, bytes, 8);
        else
            memcpy(&word, bytes, left), word |= (uint64_t)length << 56;
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
        return 1;
    uint32_t room = table->room ? table->room * 2 : 512, mask = room * 2 - 1;
    char *entries = room <= MOST_ENTRIES ? realloc(table->entries, room * table->entry_bytes) : NULL;
    if (!entries)
        return 0;
    table->entries = entries;
    uint32_t *slots = calloc((size_t)room * 2, sizeof *slots);
    if (!slots)
        return 0;
    for (uint32_t number = 0; number < table->count; number++) {
        uint64_t hash;
        memcpy(&hash, entries + number * table->entry_bytes, sizeof hash);
        uint32_t slot = (uint32_t)hash & mask;
        while (slots[slot])
            slot = (slot + 1) & mask;
        slots[slot] = number + 1;
    }
    free(table->slots);
    table->slots = slots;
    table->room = room;
    return 1;
}

/* Puts a text into the arena; 0 if there is no room. */
static int keep_text(Scanner *self, Text *text, const char *bytes, uint32_t length) {
    if (!self->arena || self->arena_room - self->arena_used < length) {
        uint32_t room = self->arena_room ? self->arena_room * 2 : 1 << 16;
        char *arena = room <= MOST_ARENA ? realloc(self->arena, room) : NULL;
        if (!arena)
            return 0;
        self->arena = arena;
        self->arena_room = room;
    }
    text->begin = self->arena_used;
    text->length = length;
    memcpy(self->arena + text->begin, bytes, length);
    self->arena_used += length;
    return 1;
}

/* The entry of a key, which is added if there is none and `add` is set; NULL if there is none then. */
static inline void *entry_of(Scanner *self, Table *table, const char *key, size_t length, int add) {
    int is_text = table == &self->texts, has_room = make_room(table); /* first, since it moves entries and slots */
    if (!table->room)
        return NULL;
    uint64_t hash = hash_of(self->secrets, key, length);
    uint32_t mask = table->room * 2 - 1, slot = (uint32_t)hash & mask;
    for (; table->slots[slot]; slot = (slot + 1) & mask) {
        char *entry = table->entries + (table->slots[slot] - 1) * table->entry_bytes;
        const Text *text = (const Text *)entry; /* all begin with a hash */
        if (text->hash == hash && (is_text ? text->length == length && !memcmp(self->arena + text->begin, key, length)
                                           : !memcmp(entry + sizeof hash, key, length)))
            return entry;
    }
    if (!add || !has_room)
        return NULL;
    char *entry = table->entries + table->count * table->entry_bytes;
    memset(entry, 0, table->entry_bytes);
    if (is_text && !keep_text(self, (Text *)entry, key, (uint32_t)length))
        return NULL;
    if (!is_text)
        memcpy(entry + sizeof hash, key, length);
    memcpy(entry, &hash, sizeof hash);
    table->slots[slot] = ++table->count;
    return entry;
}

/* JSON. Each of these gives the place behind what it has read, or NULL if that is not of the plain form. The last byte
 * before `end` is a newline, behind which nothing reads. */

#define ONES 0x0101010101010101u
#define HIGHS 0x8080808080808080u

/* The first byte that does not simply stand for itself in a text: a quote, a backslash, a control, no ASCII. */
static inline const char *stop_of_text(const char *at, const char *end) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    /* Eight bytes at once. The lowest flag that is set is right; those above it may not be. */
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

static inline int is_digit(char sign) { return sign >= '0' && sign <= '9'; }

static inline int is_hex(char sign) { return is_digit(sign) || ((sign | 32) >= 'a' && (sign | 32) <= 'f'); }

static inline const char *read_text(const char *at, const char *end, Span *text) {
    if (*at != '"')
        return NULL;
    const char *stop = stop_of_text(at + 1, end);
    text->begin = at + 1;
    text->length = (uint32_t)(stop - at - 1);
    return *stop == '"' ? stop + 1 : NULL;
}

static inline const char *read_digits(const char *at) {
    const char *begin = at;
    while (is_digit(*at))
        at++;
    return at > begin ? at : NULL;
}

static inline const char *read_count(const char *at, uint64_t *count) {
    const char *end = read_digits(at);
    if (!end || end - at > 16 || (*at == '0' && end - at > 1))
        return NULL;
    for (*count = 0; at < end; at++)
        *count = *count * 10 + (uint64_t)(*at - '0');
    return *count <= MOST_COUNT ? end : NULL;
}

static inline const char *skip_word(const char *at, const char *end, const char *word, long length) {
    return end - at > length && !memcmp(at, word, (size_t)length) ? at + length : NULL;
}

static const char *skip_text(const char *at, const char *end) {
    for (at = stop_of_text(at + 1, end); *at == '\\'; at = stop_of_text(at, end)) {
        if (at[1] > ' ' && strchr("\"\\/bfnrt", at[1]))
            at += 2;
        else if (end - at > 6 && !memcmp(at, "\\u00", 4) && is_hex(at[4]) && is_hex(at[5]))
            at += 6; /* as some write &, < and >; halves of pairs, which may be wrong, lie above */
        else
            return NULL;
    }
    return *at == '"' ? at + 1 : NULL;
}

static inline const char *skip_number(const char *at) {
    at += *at == '-';
    const char *end = read_digits(at);
    if (!end || (*at == '0' && end - at > 1))
        return NULL;
    return *end == '.' ? read_digits(end + 1) : end;
}

static inline const char *skip_value(const char *at, const char *end) {
    if (*at == '"')
        return skip_text(at, end);
    if (is_digit(*at) || *at == '-')
        return skip_number(at);
    if (*at == 'f')
        return skip_word(at, end, "false", 5);
    return *at == 't' ? skip_word(at, end, "true", 4) : skip_word(at, end, "null", 4);
}

static const char *read_name(const char *at, const char *end, Name *name) {
    Span text;
    const char *stop = read_text(at, end, &text);
    if (!stop || *stop != ':')
        return NULL;
    name->field = SKIPPED;
    for (uint8_t field = 0; field < SKIPPED; field++)
        if (strlen(FIELDS[field]) == text.length && !memcmp(FIELDS[field], text.begin, text.length))
            name->field = field;
    size_t length = (size_t)(stop + 1 - at);
    name->length = length <= NAME_BYTES ? (uint8_t)length : 0;
    memcpy(name->text, at, name->length);
    return stop + 1;
}

static const char *read_line(Scanner *self, const char *at, const char *end, Line *line) {
    memset(line, 0, sizeof *line);
    if (*at++ != '{')
        return NULL;
    for (int member = 0; member < MOST_MEMBERS; member++) {
        Name *name = &self->names[member];
        if (name->length && end - at > name->length && !memcmp(at, name->text, name->length))
            at += name->length;
        else if (!(at = read_name(at, end, name)))
            return NULL;
        unsigned field = name->field;
        if (field == SKIPPED) {
            at = skip_value(at, end);
        } else {
            if (line->seen & 1u << field)
                return NULL;
            line->seen |= 1u << field;
            if (*at == 'n')
                at = field > IP ? skip_word(at, end, "null", 4) : NULL;
            else
                at = field < TEXTS ? read_text(at, end, &line->texts[field]) : read_count(at, &line->counts[field]);
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

/* Unix milliseconds of `2026-01-10T14:49:28.299Z`, what is finer cut off; 0 for what is of another form or earlier. */
static int64_t read_time(Span text) {
    static const int DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const char *at = text.begin, *end = at + text.length;
    if (text.length < 20 || at[4] != '-' || at[7] != '-' || at[10] != 'T' || at[13] != ':' || at[16] != ':')
        return 0;
    int year = number_at(at, 4), month = number_at(at + 5, 2), day = number_at(at + 8, 2);
    int hour = number_at(at + 11, 2), minute = number_at(at + 14, 2), second = number_at(at + 17, 2);
    if (year < 1970 || month < 1 || month > 12 || day < 1 || (hour | minute | second) < 0 || hour > 23 || minute > 59 ||
        second > 59)
        return 0;
    int leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0), milliseconds = 0;
    if (day > DAYS[month - 1] + (leap && month == 2))
        return 0;
    if (*(at += 19) == '.') {
        const char *begin = ++at;
        for (int scale = 100; at < end && is_digit(*at); at++, scale /= 10)
            milliseconds += scale * (*at - '0');
        if (at == begin || at - begin > 9)
            return 0;
    }
    if (!(end - at == 1 && *at == 'Z') && !(end - at == 6 && !memcmp(at, "+00:00", 6)))
        return 0;
    int before = year - 1; /* whose days, from year 1 on, are 719162 until 1970 */
    int64_t days = 365 * (int64_t)before + before / 4 - before / 100 + before / 400 - 719162 + day - 1;
    for (int each = 1; each < month; each++)
        days += DAYS[each - 1] + (leap && each == 2);
    return ((days * 24 + hour) * 60 + minute) * 60000 + second * 1000 + milliseconds;
}

static int is_ipv4(Span text) {
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

/* Groups of hex digits with at most one gap. Zones, and an IPv4 address at the end, are left to Python. */
static int is_ipv6(Span text) {
    const char *at = text.begin, *end = at + text.length;
    int groups = 0, gaps = 0;
    if (end - at >= 2 && at[0] == ':' && at[1] == ':') {
        gaps = 1;
        at += 2;
    }
    while (at < end) {
        const char *begin = at;
        while (at < end && is_hex(*at))
            at++;
        if (at == begin || at - begin > 4 || ++groups > 8)
            return 0;
        if (at == end)
            break;
        if (*at++ != ':' || at == end)
            return 0;
        if (*at == ':') {
            gaps++;
            at++;
        }
    }
    return gaps ? gaps == 1 && groups < 8 : groups == 8;
}

static int begins_with_stream(Span path) {
    if (path.length < STREAM_BYTES + 2 || path.begin[0] != '/' || path.begin[STREAM_BYTES + 1] != '/')
        return 0;
    for (int place = 1; place <= STREAM_BYTES; place++)
        if (!is_digit(path.begin[place]) && !(path.begin[place] >= 'a' && path.begin[place] <= 'f'))
            return 0;
    return 1;
}

/* Lines */

/* The number of a text, or -1 if it cannot be remembered. */
static inline int64_t number_of(Scanner *self, Span span) {
    const char *bytes = span.length ? span.begin : "";
    Text *text = span.length <= MOST_TEXT ? entry_of(self, &self->texts, bytes, span.length, 1) : NULL;
    return text ? text - (Text *)self->texts.entries : -1;
}

/* Counts a line; 0 if it is not taken, and then nothing has changed but what is remembered. */
static int count_line(Scanner *self, const Line *line) {
    int64_t at = read_time(line->texts[TIMESTAMP]), numbers[TEXTS];
    if (!at || at < self->oldest_ms || at > self->latest_ms || !begins_with_stream(line->texts[PATH]) ||
        !(is_ipv4(line->texts[IP]) || is_ipv6(line->texts[IP])))
        return 0;
    Text *stream = entry_of(self, &self->texts, line->texts[PATH].begin + 1, STREAM_BYTES, !self->admitted_only);
    if (!stream || (self->admitted_only && !stream->admitted))
        return 0;
    numbers[PATH] = stream - (Text *)self->texts.entries;
    for (int field = IP; field < TEXTS; field++)
        if ((numbers[field] = number_of(self, line->texts[field])) < 0)
            return 0;
    Group group = {
        .tick = (at / 1000 / self->tick_seconds + 1) * self->tick_seconds,
        .cdn = line->counts[CDN],
        .status = line->counts[STATUS],
        .stream = (uint32_t)numbers[PATH],
        .cache = (uint32_t)numbers[CACHE],
        .pop = (uint32_t)numbers[POP],
    };
    Viewer viewer = {
        .tick = group.tick,
        .stream = group.stream,
        .ip = (uint32_t)numbers[IP],
        .agent = (uint32_t)numbers[AGENT],
        .country = (uint32_t)numbers[COUNTRY],
    };
    /* A group that is added and then not counted has no requests, a viewer no times: they are not given out. */
    Group *sums = entry_of(self, &self->groups, (char *)&group.tick, GROUP_KEY, 1);
    Viewer *seen = sums ? entry_of(self, &self->viewers, (char *)&viewer.tick, VIEWER_KEY, 1) : NULL;
    if (!seen || sums->bytes > MOST_SUM || sums->wait > MOST_SUM)
        return 0;
    sums->requests++;
    sums->bytes += line->counts[SIZE];
    sums->wait += line->counts[WAIT];
    sums->waits += line->counts[WAIT] > 0;
    if (!seen->first || at < seen->first)
        seen->first = at;
    if (at > seen->last)
        seen->last = at;
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
static int take_lines(Scanner *self, const char *data, size_t begin, size_t length) {
    const char *end = data + length;
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
    return !taken || next_run(self, taken, length) != NULL;
}

/* Python */

static void release(Scanner *self) {
    Table *tables[] = {&self->texts, &self->groups, &self->viewers};
    for (int each = 0; each < 3; each++) {
        free(tables[each]->entries);
        free(tables[each]->slots);
        memset(tables[each], 0, sizeof *tables[each]);
    }
    free(self->arena);
    free(self->runs);
    self->arena = NULL;
    self->runs = NULL;
    self->closed = 1;
}

static PyObject *scanner_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"tick_seconds", "line_bytes", "oldest_ms", "latest_ms", "admitted_only", "secrets", NULL};
    Scanner given;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "LLLLp(LL)", names, &given.tick_seconds, &given.line_bytes,
                                     &given.oldest_ms, &given.latest_ms, &given.admitted_only, &given.secrets[0],
                                     &given.secrets[1]))
        return NULL;
    if (given.tick_seconds < 1) {
        PyErr_SetString(PyExc_ValueError, "a tick has a length");
        return NULL;
    }
    Scanner *self = (Scanner *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0); /* all zeros */
    if (!self)
        return NULL;
    self->tick_seconds = given.tick_seconds;
    self->line_bytes = given.line_bytes;
    self->oldest_ms = given.oldest_ms;
    self->latest_ms = given.latest_ms;
    self->admitted_only = given.admitted_only;
    memcpy(self->secrets, given.secrets, sizeof given.secrets);
    self->texts.entry_bytes = sizeof(Text);
    self->groups.entry_bytes = sizeof(Group);
    self->viewers.entry_bytes = sizeof(Viewer);
    return (PyObject *)self;
}

static void scanner_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    release((Scanner *)object);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
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
    Py_BEGIN_ALLOW_THREADS /* bytes do not change, and the caller keeps them */
    done = take_lines(self, data, (size_t)begin, (size_t)length);
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
    if (!PyArg_ParseTuple(args, "s#", &stream, &length) || !is_free(self))
        return NULL;
    Text *text = length == STREAM_BYTES ? entry_of(self, &self->texts, stream, STREAM_BYTES, 1) : NULL;
    if (text)
        text->admitted = 1;
    Py_RETURN_NONE;
}

/* All texts as strings, by their numbers. */
static PyObject *strings_of(const Scanner *self) {
    PyObject *strings = PyTuple_New(self->texts.count);
    for (uint32_t number = 0; strings && number < self->texts.count; number++) {
        const Text *text = (const Text *)self->texts.entries + number;
        PyObject *string = PyUnicode_DecodeASCII(self->arena + text->begin, text->length, NULL);
        if (!string || PyTuple_SetItem(strings, number, string))
            Py_CLEAR(strings);
    }
    return strings;
}

/* Bytes with room for so many rows of whole numbers. */
static int64_t *make_rows(PyObject **rows, uint32_t count, size_t columns) {
    *rows = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(count * columns * sizeof(int64_t)));
    return *rows ? (int64_t *)PyBytes_AsString(*rows) : NULL;
}

/* The groups that count a request, each as a row: texts by their numbers. */
static PyObject *groups_of(const Scanner *self) {
    const Group *groups = (const Group *)self->groups.entries, *end = groups + self->groups.count;
    uint32_t count = 0;
    for (const Group *group = groups; group < end; group++)
        count += group->requests > 0;
    PyObject *rows;
    int64_t *at = make_rows(&rows, count, GROUP_COLUMNS);
    for (const Group *group = groups; at && group < end; group++)
        if (group->requests) {
            const uint64_t row[GROUP_COLUMNS] = {(uint64_t)group->tick, group->stream,   group->cdn,
                                                 group->cache,          group->pop,      group->status,
                                                 group->requests,       group->bytes,    group->wait,
                                                 group->waits};
            memcpy(at, row, sizeof row);
            at += GROUP_COLUMNS;
        }
    return rows;
}

/* The same of the viewers that were seen. */
static PyObject *viewers_of(const Scanner *self) {
    const Viewer *viewers = (const Viewer *)self->viewers.entries, *end = viewers + self->viewers.count;
    uint32_t count = 0;
    for (const Viewer *viewer = viewers; viewer < end; viewer++)
        count += viewer->last > 0;
    PyObject *rows;
    int64_t *at = make_rows(&rows, count, VIEWER_COLUMNS);
    for (const Viewer *viewer = viewers; at && viewer < end; viewer++)
        if (viewer->last) {
            const int64_t row[VIEWER_COLUMNS] = {viewer->tick,    viewer->stream, viewer->ip,  viewer->agent,
                                                 viewer->country, viewer->first,  viewer->last};
            memcpy(at, row, sizeof row);
            at += VIEWER_COLUMNS;
        }
    return rows;
}

static PyObject *scanner_close(PyObject *object, PyObject *Py_UNUSED(none)) {
    Scanner *self = (Scanner *)object;
    if (!is_free(self))
        return NULL;
    PyObject *strings = strings_of(self), *groups = groups_of(self), *viewers = viewers_of(self), *found = NULL;
    if (strings && groups && viewers)
        found = PyTuple_Pack(3, strings, groups, viewers);
    Py_XDECREF(strings);
    Py_XDECREF(groups);
    Py_XDECREF(viewers);
    release(self);
    return found;
}

static PyMethodDef METHODS[] = {
    {"take", scanner_take, METH_VARARGS, "Count plain lines; what is left, with the lines taken before it."},
    {"admit", scanner_admit, METH_VARARGS, "Take lines of this stream, if only admitted ones are taken."},
    {"close", scanner_close, METH_NOARGS, "All texts, and the groups and the viewers of all lines taken; ends the scanner."},
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

static int fill_module(PyObject *module) {
    PyObject *type = PyType_FromSpec(&SPEC);
    int failed = !type || PyModule_AddObjectRef(module, "Scanner", type);
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot MODULE_SLOTS[] = {{Py_mod_exec, fill_module}, {0, NULL}};

static PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "_scan", .m_doc = "The compiled scan of plain lines.", .m_slots = MODULE_SLOTS
};

PyMODINIT_FUNC PyInit__scan(void) { return PyModuleDef_Init(&MODULE); }
