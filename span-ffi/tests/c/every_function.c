/* Each function of span.h with each mistake that can be made with any: NULL and misaligned pointers, structs of no
 * possible size, handles that are in use or poisoned. The table of the functions is made from the header, so that none
 * is forgotten. */
#include "test.h"

#include <pthread.h>

/* Kinds of handles, as the hooks number them. */
enum { TUNNEL, NODE, LISTENER, STREAM, DATAGRAMS, KINDS };

extern span_status span_hook_panic(int kind, void *handle);
extern span_status span_hook_stay(int kind, void *handle, int reading, int *entered, int *leave);

/* Something right for every argument there is. */
struct world {
    span_tunnel *tunnel, *new_tunnel;
    span_node *node, *new_node;
    span_listener *listener, *new_listener;
    span_stream *stream, *new_stream;
    span_datagrams *datagrams, *new_datagrams;
    span_tunnel_config tunnel_config;
    span_peer_config peer_config;
    span_peer_stats peer_stats;
    span_counters counters;
    span_event event;
    span_node_config node_config;
    span_node_event node_event;
    span_endpoint endpoint;
    span_key key;
    span_path path;
    span_prefix prefix;
    span_packet packet;
    uint64_t number, peer;
    size_t count;
    int fd;
    uint8_t bytes[256];
    char text[256];
};

struct param {
    const char *name;
    int optional;   /* NULL may be given */
    int alignment;
    size_t size;    /* of a struct that says it itself, else 0 */
    size_t first;   /* the size of its first version */
    int read;       /* it is only read */
};

struct function {
    const char *name;
    int kind;       /* of the handle that comes first, -1 if there is none */
    int changes;    /* what is behind the handle */
    int params;
    struct param param[8];
    /* Calls it with the argument `at` in place of the right one; with all that are right if `at` is -1. */
    span_status (*call)(struct world *w, int at, void *argument);
};

#include FUNCTIONS

static void **handle(struct world *w, int kind)
{
    void *const handles[KINDS] = {&w->tunnel, &w->node, &w->listener, &w->stream, &w->datagrams};
    return handles[kind];
}

static struct world *make(void)
{
    span_node_config config = {.size = sizeof config};
    struct world *w = calloc(1, sizeof *w);
    char token[512];
    size_t length;

    ASSERT(w != NULL);
    w->tunnel_config.size = sizeof w->tunnel_config;
    w->peer_config.size = sizeof w->peer_config;
    w->peer_stats.size = sizeof w->peer_stats;
    w->counters.size = sizeof w->counters;
    w->event.size = sizeof w->event;
    w->node_config.size = sizeof w->node_config;
    w->node_config.token = "none"; /* so that no node is made */
    w->node_event.size = sizeof w->node_event;
    w->peer_config.public_key = public_of(2);
    w->tunnel = tunnel_of(1);
    OK(span_path_parse(BOB, &w->path));
    OK(span_prefix_parse("10.0.0.2/32", &w->prefix));
    w->peer = add_peer(w->tunnel, 3, NULL, NULL);

    OK(span_token_generate("http://127.0.0.1:9", token, sizeof token, &length)); /* nobody is there */
    config.token = token;
    config.flags = SPAN_NODE_FLAG_NETSTACK | SPAN_NODE_FLAG_EPHEMERAL | SPAN_NODE_FLAG_NO_CONTROL_SOCKET;
    config.configuration = "apiVersion: span/v1\nkind: NodeConfig\nlistenPort: 0\ndiscovery:\n  bypassMesh: false\n";
    OK(span_node_new(&config, NULL, 0, &w->node));
    OK(span_node_start(w->node, NULL, 0));
    OK(span_node_address(w->node, &w->endpoint));
    OK(span_node_listen(w->node, &w->endpoint, 0, &w->listener));
    OK(span_node_datagrams(w->node, &w->endpoint, &w->datagrams));
    w->endpoint.address[15] ^= 1; /* nobody */
    w->endpoint.port = 1;
    OK(span_node_connect(w->node, &w->endpoint, &w->stream));
    return w;
}

/* Frees what calls that went well have made. */
static void clear(struct world *w)
{
    span_stream_free(w->new_stream);
    span_listener_free(w->new_listener);
    span_datagrams_free(w->new_datagrams);
    w->new_stream = NULL;
    w->new_listener = NULL;
    w->new_datagrams = NULL;
}

static void unmake(struct world *w)
{
    span_stream_free(w->stream);
    span_listener_free(w->listener);
    span_datagrams_free(w->datagrams);
    span_node_free(w->node);
    span_tunnel_free(w->tunnel);
    free(w);
}

static void expect(const struct function *f, const char *what, int right, span_status status)
{
    if (!right) {
        fprintf(stderr, "%s: %s: %s\n", f->name, what, span_status_text(status));
        exit(1);
    }
}

static void pointers(struct world *w)
{
    static uint64_t memory[512];
    span_status status;
    const struct function *f;
    int i;

    for (f = functions; f < functions + FUNCTION_COUNT; f++) {
        for (i = 0; i < f->params; i++) {
            const struct param *p = &f->param[i];
            if (p->alignment == 0)
                continue; /* a number */
            if (p->alignment > 1) {
                status = f->call(w, i, (char *)memory + 1);
                expect(f, p->name, status == SPAN_STATUS_MISALIGNED, status);
            }
            status = f->call(w, i, NULL);
            if (p->optional)
                expect(f, p->name, status != SPAN_STATUS_NULL && status != SPAN_STATUS_PANICKED, status);
            else
                expect(f, p->name, status == SPAN_STATUS_NULL, status);
        }
    }
    for (i = 0; i < FREE_COUNT; i++) {
        frees[i](NULL);
        frees[i]((char *)memory + 1);
    }
}

static void sizes(struct world *w)
{
    /* Larger than any struct, so that the library may believe what the field says. */
    static uint64_t memory[1 << 14];
    uint32_t *const size = (uint32_t *)memory;
    const struct function *f;
    span_status status;
    int i;

    for (f = functions; f < functions + FUNCTION_COUNT; f++) {
        for (i = 0; i < f->params; i++) {
            const struct param *p = &f->param[i];
            const uint32_t wrong[] = {0, 4, (uint32_t)p->first - 8, 1 << 20, UINT32_MAX};
            size_t at;
            if (p->size == 0)
                continue;
            for (at = 0; at < sizeof wrong / sizeof *wrong; at++) {
                memset(memory, 0, sizeof memory);
                *size = wrong[at];
                status = f->call(w, i, memory);
                expect(f, "size", status == SPAN_STATUS_STRUCT_SIZE && *size == wrong[at], status);
            }
            /* A program of yesterday, as far as the calls go that need nothing else. */
            memset(memory, 0xee, sizeof memory);
            *size = (uint32_t)p->first;
            status = p->read ? SPAN_STATUS_OK : f->call(w, i, memory);
            expect(f, "older", status == SPAN_STATUS_OK, status);
            expect(f, "older", *size == p->first && *((uint8_t *)memory + p->first) == 0xee, status);
            /* A program of tomorrow. */
            memset(memory, 0, sizeof memory);
            *size = (uint32_t)p->size + 16;
            memory[(p->size + 8) / 8] = 1;
            status = f->call(w, i, memory);
            if (p->read)
                expect(f, "newer", status == SPAN_STATUS_UNSUPPORTED, status);
            else
                expect(f, "newer", status == SPAN_STATUS_OK && *size == p->size && memory[(p->size + 8) / 8] == 1, status);
        }
    }
}

struct stay {
    void *handle;
    int kind, reading, entered, leave;
};

static void *stay(void *argument)
{
    struct stay *stay = argument;
    OK(span_hook_stay(stay->kind, stay->handle, stay->reading, &stay->entered, &stay->leave));
    return NULL;
}

/* One thread is in a call with a handle, and another calls all there is with it. */
static void two_threads(struct world *w, int kind, int reading)
{
    struct stay inside = {*handle(w, kind), kind, reading, 0, 0};
    const struct function *f;
    pthread_t thread;
    span_status status;
    int i;

    ASSERT(pthread_create(&thread, NULL, stay, &inside) == 0);
    while (!__atomic_load_n(&inside.entered, __ATOMIC_ACQUIRE))
        ;
    for (i = 0; i < FREE_COUNT; i++)
        if (free_kinds[i] == kind)
            frees[i](inside.handle); /* it is not freed: the address sanitizer would know */
    for (f = functions; f < functions + FUNCTION_COUNT; f++) {
        if (f->kind != kind || f->call == call_span_node_stop)
            continue;
        status = f->call(w, -1, NULL);
        expect(f, reading ? "while it is read" : "while it is changed",
            (status == SPAN_STATUS_BUSY) == (f->changes || !reading), status);
        clear(w);
    }
    __atomic_store_n(&inside.leave, 1, __ATOMIC_RELEASE);
    ASSERT(pthread_join(thread, NULL) == 0);
}

static void panics(struct world *w, int kind)
{
    const struct function *f;
    span_status status;
    size_t length;

    EXPECT(SPAN_STATUS_PANICKED, span_hook_panic(kind, *handle(w, kind)));
    for (f = functions; f < functions + FUNCTION_COUNT; f++) {
        if (f->kind != kind)
            continue;
        status = f->call(w, -1, NULL);
        expect(f, "poisoned", status == SPAN_STATUS_PANICKED, status);
    }
    /* Nobody else is touched. */
    if (kind != NODE)
        OK(span_node_status(w->node, NULL, 0, &length));
    if (kind != TUNNEL)
        OK(span_tunnel_handle_timeout(w->tunnel, 0));
}

int main(void)
{
    struct world *w = make();
    int kind;
    pointers(w);
    sizes(w);
    unmake(w);
    for (kind = 0; kind < KINDS; kind++) {
        w = make();
        two_threads(w, kind, 0);
        two_threads(w, kind, 1);
        panics(w, kind);
        unmake(w);
    }
    puts("ok");
    return 0;
}
