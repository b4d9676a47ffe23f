/* What nodes do, seen from C. */
#define _GNU_SOURCE
#include "test.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#define OWN (SPAN_NODE_FLAG_NETSTACK | SPAN_NODE_FLAG_EPHEMERAL | SPAN_NODE_FLAG_NO_CONTROL_SOCKET)

static char token[512];
static unsigned discovery_port;

static int bound_socket(int type, unsigned *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, type, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT(fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0);
    ASSERT(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static span_node *start(const char *name, uint8_t key)
{
    span_node_config config = {.size = sizeof config, .flags = OWN | SPAN_NODE_FLAG_UDP4_FD};
    char yaml[256], where[32], why[256];
    span_endpoint endpoint;
    span_node *node = NULL;
    unsigned port;

    config.udp4_fd = bound_socket(SOCK_DGRAM, &port);
    config.private_key = key_of(key);
    config.token = token;
    config.name = name;
    config.configuration = yaml;
    config.endpoints = &endpoint;
    config.endpoints_count = 1;
    snprintf(where, sizeof where, "127.0.0.1:%u", port);
    OK(span_endpoint_parse(where, &endpoint));
    snprintf(yaml, sizeof yaml,
        "apiVersion: span/v1\nkind: NodeConfig\ncipher: chacha20-poly1305\naddresses: [10.9.0.%u]\ndiscovery:\n  bypassMesh: false\n", key);
    if (key == 1)
        snprintf(yaml + strlen(yaml), sizeof yaml - strlen(yaml), "  serve: 127.0.0.1:%u\n", discovery_port);
    OK(span_node_new(&config, why, sizeof why, &node));
    ASSERT(why[0] == 0);
    OK(span_node_start(node, why, sizeof why));
    close(config.udp4_fd); /* the node has one of its own */
    return node;
}

static int readable(int fd, int milliseconds)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    return poll(&wait, 1, milliseconds) == 1;
}

/* Calls until it need not wait any more. */
#define WAIT(fd, call)                                                                                       \
    do {                                                                                                     \
        span_status wait_;                                                                                   \
        while ((wait_ = (call)) == SPAN_STATUS_AGAIN)                                                        \
            ASSERT(readable(fd, 30000));                                                                     \
        EXPECT(SPAN_STATUS_OK, wait_);                                                                       \
    } while (0)

static int same(const span_endpoint *one, const span_endpoint *other)
{
    return memcmp(one, other, sizeof *one) == 0;
}

static void wait_for_peer(const span_node *node, const span_node *peer, const char *name)
{
    span_node_event event = {.size = sizeof event};
    span_endpoint address;
    int fd;
    OK(span_node_event_fd(node, &fd));
    do {
        ASSERT(readable(fd, 30000));
        OK(span_node_poll_event(node, &event));
    } while (event.kind != SPAN_NODE_EVENT_KIND_PEER_UP);
    ASSERT(strcmp(event.name, name) == 0 && strlen(event.node_id) > 0 && event.size == sizeof event);
    OK(span_node_address(peer, &address));
    ASSERT(same(&event.address, &address) && event.reserved == 0);
    OK(span_node_resolve(node, event.node_id, &address));
    ASSERT(same(&event.address, &address));
    close(fd);
}

static void connect_to(const span_node *from, const span_node *to, uint16_t port, span_stream **client,
    span_stream **server)
{
    span_listener *listener;
    span_endpoint address, seen;
    int fd;
    OK(span_node_address(to, &address));
    ASSERT(address.family == 6 && address.address[0] == 0xfd);
    address.port = port;
    OK(span_node_listen(to, &address, 0, &listener));
    EXPECT(SPAN_STATUS_AGAIN, span_listener_accept(listener, server));
    OK(span_listener_fd(listener, &fd));
    ASSERT(readable(fd, 0));
    EXPECT(SPAN_STATUS_AGAIN, span_listener_accept(listener, server));
    ASSERT(!readable(fd, 0));
    OK(span_node_connect(from, &address, client));
    WAIT(fd, span_listener_accept(listener, server));
    close(fd);
    OK(span_stream_write_fd(*client, &fd));
    WAIT(fd, span_stream_connected(*client));
    close(fd);
    OK(span_stream_remote(*client, &seen));
    ASSERT(memcmp(&seen, &address, sizeof seen) == 0);
    OK(span_stream_local(*server, &seen));
    ASSERT(memcmp(&seen, &address, sizeof seen) == 0);
    span_listener_free(listener);
}

enum { TRANSFER = 3 << 20 };

static void *write_all(void *argument)
{
    span_stream *stream = argument;
    static uint8_t bytes[TRANSFER];
    size_t done = 0, count, i;
    int fd;
    for (i = 0; i < TRANSFER; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    OK(span_stream_write_fd(stream, &fd));
    while (done < TRANSFER) {
        WAIT(fd, span_stream_write(stream, bytes + done, TRANSFER - done, &count));
        done += count;
    }
    OK(span_stream_shutdown(stream, SPAN_STREAM_END_WRITE));
    EXPECT(SPAN_STATUS_BROKEN_PIPE, span_stream_write(stream, bytes, 1, &count));
    close(fd);
    return NULL;
}

static void streams(const span_node *alice, const span_node *bob)
{
    static uint8_t bytes[65536];
    span_stream *client, *server;
    span_endpoint nobody;
    size_t done = 0, count, i;
    pthread_t writer;
    int fd;

    connect_to(alice, bob, 80, &client, &server);
    OK(span_stream_read_fd(server, &fd));
    EXPECT(SPAN_STATUS_AGAIN, span_stream_read(server, bytes, sizeof bytes, &count));
    ASSERT(!readable(fd, 0));
    ASSERT(pthread_create(&writer, NULL, write_all, client) == 0);
    do {
        WAIT(fd, span_stream_read(server, bytes, sizeof bytes, &count));
        for (i = 0; i < count; i++)
            ASSERT(bytes[i] == (uint8_t)((done + i) * 7 + (done + i) / 251));
        done += count;
    } while (count > 0);
    ASSERT(done == TRANSFER && readable(fd, 0));
    ASSERT(pthread_join(writer, NULL) == 0);
    EXPECT(SPAN_STATUS_INVALID, span_stream_shutdown(server, 3));
    close(fd);
    span_stream_free(client);
    span_stream_free(server);

    /* Nobody listens there. */
    OK(span_node_address(bob, &nobody));
    nobody.port = 81;
    OK(span_node_connect(alice, &nobody, &client));
    OK(span_stream_write_fd(client, &fd));
    for (i = 0; span_stream_connected(client) == SPAN_STATUS_AGAIN; i++)
        ASSERT(readable(fd, 30000));
    EXPECT(SPAN_STATUS_REFUSED, span_stream_connected(client));
    close(fd);
    span_stream_free(client);
    nobody.family = 5;
    EXPECT(SPAN_STATUS_INVALID, span_node_connect(alice, &nobody, &client));
}

static void datagrams(const span_node *alice, const span_node *bob)
{
    span_datagrams *sender, *receiver, *other;
    span_endpoint address, any, from;
    uint8_t bytes[64];
    size_t count;
    int fd;

    OK(span_endpoint_parse("10.9.0.2:53", &address));
    OK(span_endpoint_parse("0.0.0.0:0", &any));
    OK(span_node_datagrams(bob, &address, &receiver));
    EXPECT(SPAN_STATUS_ADDRESS_IN_USE, span_node_datagrams(bob, &address, &other));
    EXPECT(SPAN_STATUS_ADDRESS_NOT_AVAILABLE, span_node_datagrams(alice, &address, &other));
    OK(span_node_datagrams(alice, &any, &sender));
    OK(span_datagrams_local(sender, &any));
    ASSERT(any.port != 0 && any.family == 4);
    OK(span_datagrams_fd(receiver, &fd));
    EXPECT(SPAN_STATUS_AGAIN, span_datagrams_receive(receiver, bytes, sizeof bytes, &count, &from));
    ASSERT(!readable(fd, 0));
    OK(span_datagrams_send(sender, (const uint8_t *)"question", 8, &address));
    WAIT(fd, span_datagrams_receive(receiver, bytes, 5, &count, &from));
    ASSERT(count == 5 && memcmp(bytes, "quest", 5) == 0 && from.port == any.port && from.address[3] == 1);
    EXPECT(SPAN_STATUS_INVALID, span_datagrams_send(sender, bytes, 60000, &address));
    close(fd);
    OK(span_datagrams_send_fd(sender, &fd));
    ASSERT(readable(fd, 0));
    close(fd);
    span_datagrams_free(sender);
    span_datagrams_free(receiver);
}

static void names(const span_node *alice, const span_node *bob)
{
    span_endpoint address, found;
    OK(span_node_address(bob, &address));
    ASSERT(address.family == 6 && address.port == 0);
    OK(span_node_resolve(alice, "bob", &found));
    ASSERT(same(&found, &address));
    OK(span_node_resolve(alice, "BOB.", &found));
    ASSERT(same(&found, &address));
    OK(span_node_resolve(bob, "bob", &found)); /* itself */
    ASSERT(same(&found, &address));
    memset(&found, 7, sizeof found);
    EXPECT(SPAN_STATUS_UNKNOWN_PEER, span_node_resolve(alice, "carol", &found));
    EXPECT(SPAN_STATUS_UNKNOWN_PEER, span_node_resolve(alice, "", &found));
    EXPECT(SPAN_STATUS_UNKNOWN_PEER, span_node_resolve(alice, "bob\xff", &found)); /* not UTF-8 */
    ASSERT(found.port == 0x0707);
}

static void status(const span_node *node)
{
    char small[8] = "xxxxxxx", *text;
    size_t length, again;
    OK(span_node_status(node, NULL, 0, &length));
    ASSERT(length > 200);
    OK(span_node_status(node, small, sizeof small, &length));
    ASSERT(small[0] == 0);
    text = malloc(length + 200);
    ASSERT(text != NULL);
    OK(span_node_status(node, text, length + 200, &again));
    ASSERT(strlen(text) == again && strstr(text, "\"name\":\"alice\"") && strstr(text, "\"name\":\"bob\""));
    free(text);
}

/* Signals go to the program's own threads, which have them as they had. */
static void signals(void)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    int threads = 0;
    ASSERT(tasks != NULL);
    while ((task = readdir(tasks)) != NULL) {
        char path[300], line[256];
        unsigned long long blocked = 0;
        FILE *file;
        int own = atoi(task->d_name) == getpid();
        snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        if (task->d_name[0] == '.' || (file = fopen(path, "r")) == NULL)
            continue; /* one that has just ended */
        while (fgets(line, sizeof line, file) != NULL && sscanf(line, "SigBlk: %llx", &blocked) != 1)
            ;
        fclose(file);
        ASSERT((blocked >> (SIGPIPE - 1) & 1) == !own && (blocked >> (SIGTERM - 1) & 1) == !own);
        ASSERT((blocked >> (SIGSEGV - 1) & 1) == 0);
        threads++;
    }
    closedir(tasks);
    ASSERT(threads > 2);
}

/* After the end of a node everything of it says so, and is freed in any order. */
static void the_end(span_node *alice, span_node *bob)
{
    span_node_event event = {.size = sizeof event};
    span_endpoint address;
    span_stream *client, *server;
    uint8_t byte;
    size_t count;
    int events, fd;

    connect_to(alice, bob, 99, &client, &server);
    OK(span_node_event_fd(alice, &events));
    OK(span_stream_read_fd(client, &fd));
    EXPECT(SPAN_STATUS_AGAIN, span_stream_read(client, &byte, 1, &count));
    OK(span_node_stop(alice));
    ASSERT(readable(fd, 0));
    EXPECT(SPAN_STATUS_STOPPED, span_stream_read(client, &byte, 1, &count));
    EXPECT(SPAN_STATUS_STOPPED, span_stream_write(client, &byte, 1, &count));
    EXPECT(SPAN_STATUS_STOPPED, span_node_status(alice, NULL, 0, &count));
    EXPECT(SPAN_STATUS_STOPPED, span_node_address(alice, &address));
    EXPECT(SPAN_STATUS_STOPPED, span_node_resolve(alice, "bob", &address));
    OK(span_endpoint_parse("[fd00::1]:1", &address));
    EXPECT(SPAN_STATUS_STOPPED, span_node_connect(alice, &address, &client));
    do {
        ASSERT(readable(events, 0));
        OK(span_node_poll_event(alice, &event));
    } while (event.kind != SPAN_NODE_EVENT_KIND_STOPPED);
    ASSERT(event.reason[0] == 0);
    EXPECT(SPAN_STATUS_STOPPED, span_node_poll_event(alice, &event));
    OK(span_node_stop(alice));
    span_node_free(alice);
    EXPECT(SPAN_STATUS_STOPPED, span_stream_read(client, &byte, 1, &count));
    ASSERT(readable(events, 0));
    close(events);
    close(fd);
    span_stream_free(client);
    span_stream_free(server);
    span_node_free(bob);
}

int main(void)
{
    char url[64];
    size_t length;
    span_node *alice, *bob;

    close(bound_socket(SOCK_STREAM, &discovery_port));
    snprintf(url, sizeof url, "http://127.0.0.1:%u", discovery_port);
    OK(span_token_generate(url, token, sizeof token, &length));
    ASSERT(length == strlen(token));
    alice = start("alice", 1);
    bob = start("bob", 2);
    wait_for_peer(alice, bob, "bob");
    wait_for_peer(bob, alice, "alice");
    EXPECT(SPAN_STATUS_NOT_STARTED, span_node_start(alice, NULL, 0));
    signals();
    status(alice);
    names(alice, bob);
    streams(alice, bob);
    datagrams(alice, bob);
    the_end(alice, bob);
    puts("ok");
    return 0;
}
