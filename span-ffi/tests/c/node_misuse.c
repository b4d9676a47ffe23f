/* Mistakes with nodes have their status, and harm nothing. Those that can be made with any function are in
 * every_function.c. */
#define _GNU_SOURCE
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define OWN (SPAN_NODE_FLAG_NETSTACK | SPAN_NODE_FLAG_EPHEMERAL | SPAN_NODE_FLAG_NO_CONTROL_SOCKET)

static char token[512];

static span_node *start(const span_node_config *config)
{
    span_node *node = NULL;
    char why[256];
    OK(span_node_new(config, why, sizeof why, &node));
    OK(span_node_start(node, why, sizeof why));
    return node;
}

static int bound_socket(int family, int type)
{
    struct sockaddr_storage address = {.ss_family = (sa_family_t)family};
    int fd = socket(family, type, 0);
    ASSERT(fd >= 0);
    if (family != AF_UNIX)
        ASSERT(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static int readable(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    return poll(&wait, 1, 0) == 1;
}

static void configurations(void)
{
    span_node_config config = {.size = sizeof config, .flags = OWN};
    span_endpoint endpoint = {.family = 6};
    span_node *node = NULL;
    span_stream *stream;
    char why[128], tiny[4];
    size_t length;

    config.configuration = "interface: [";
    EXPECT(SPAN_STATUS_CONFIG, span_node_new(&config, why, sizeof why, &node));
    ASSERT(strlen(why) > 10);
    EXPECT(SPAN_STATUS_CONFIG, span_node_new(&config, tiny, sizeof tiny, &node));
    ASSERT(strlen(tiny) == 3);
    EXPECT(SPAN_STATUS_CONFIG, span_node_new(&config, NULL, 17, &node));
    config.configuration = NULL;
    config.token = "span1.nonsense";
    EXPECT(SPAN_STATUS_CONFIG, span_node_new(&config, why, sizeof why, &node));
    ASSERT(strstr(why, "token") != NULL);
    config.token = token;
    config.flags = 1u << 20;
    EXPECT(SPAN_STATUS_INVALID, span_node_new(&config, why, sizeof why, &node));
    config.flags = SPAN_NODE_FLAG_NETSTACK | SPAN_NODE_FLAG_TUN_FD;
    EXPECT(SPAN_STATUS_INVALID, span_node_new(&config, why, sizeof why, &node));
    config.flags = OWN | SPAN_NODE_FLAG_UDP6_FD;
    config.udp6_fd = -1;
    EXPECT(SPAN_STATUS_INVALID, span_node_new(&config, why, sizeof why, &node));
    config.udp6_fd = 1 << 20;
    EXPECT(SPAN_STATUS_INVALID, span_node_new(&config, why, sizeof why, &node));
    config.flags = OWN;
    config.endpoints_count = 1;
    EXPECT(SPAN_STATUS_NULL, span_node_new(&config, why, sizeof why, &node));
    endpoint.family = 0;
    config.endpoints = &endpoint;
    EXPECT(SPAN_STATUS_INVALID, span_node_new(&config, why, sizeof why, &node));
    config.endpoints_count = SIZE_MAX;
    EXPECT(SPAN_STATUS_INVALID, span_node_new(&config, why, sizeof why, &node));
    config.endpoints_count = 0;
    ASSERT(node == NULL);

    /* A node that is not started, and one that cannot be. */
    config.token = NULL;
    OK(span_node_new(&config, why, sizeof why, &node));
    EXPECT(SPAN_STATUS_NOT_STARTED, span_node_status(node, NULL, 0, &length));
    OK(span_endpoint_parse("[fd00::1]:1", &endpoint));
    EXPECT(SPAN_STATUS_NOT_STARTED, span_node_connect(node, &endpoint, &stream));
    EXPECT(SPAN_STATUS_NOT_STARTED, span_node_resolve(node, "bob", &endpoint));
    EXPECT(SPAN_STATUS_NOT_STARTED, span_node_stop(node));
    EXPECT(SPAN_STATUS_START, span_node_start(node, why, sizeof why));
    ASSERT(strstr(why, "cluster") != NULL);
    EXPECT(SPAN_STATUS_NOT_STARTED, span_node_start(node, why, sizeof why));
    span_node_free(node);

    EXPECT(SPAN_STATUS_INVALID, span_token_generate("no url", tiny, sizeof tiny, &length));
    OK(span_token_generate(NULL, tiny, sizeof tiny, &length));
    ASSERT(tiny[0] == 0 && length > 60);
    EXPECT(SPAN_STATUS_ADDRESS_TEXT, span_endpoint_parse("[::1]", &endpoint));
}

/* Descriptors of something else: the node does not start, says why, and keeps none of them. */
static void descriptors_of_a_wrong_kind(void)
{
    int ends[2], i;
    ASSERT(pipe(ends) == 0);
    const struct {
        uint32_t flag;
        int fd;
        const char *says;
    } wrong[] = {
        {SPAN_NODE_FLAG_UDP4_FD, ends[0], "UDP socket that is bound to an address of IPv4"},
        {SPAN_NODE_FLAG_UDP4_FD, open("/dev/null", O_RDWR), "UDP socket that is bound to an address of IPv4"},
        {SPAN_NODE_FLAG_UDP4_FD, bound_socket(AF_INET, SOCK_STREAM), "UDP socket that is bound to an address of IPv4"},
        {SPAN_NODE_FLAG_UDP4_FD, bound_socket(AF_UNIX, SOCK_DGRAM), "UDP socket that is bound to an address of IPv4"},
        {SPAN_NODE_FLAG_UDP4_FD, bound_socket(AF_INET6, SOCK_DGRAM), "UDP socket that is bound to an address of IPv4"},
        {SPAN_NODE_FLAG_UDP6_FD, ends[1], "UDP socket that is bound to an address of IPv6"},
        {SPAN_NODE_FLAG_UDP6_FD, bound_socket(AF_INET, SOCK_DGRAM), "UDP socket that is bound to an address of IPv6"},
        {SPAN_NODE_FLAG_TUN_FD, ends[0], "not a TUN"},
        {SPAN_NODE_FLAG_TUN_FD, open("/dev/null", O_RDWR), "not a TUN"},
        {SPAN_NODE_FLAG_TUN_FD, bound_socket(AF_INET, SOCK_DGRAM), "not a TUN"},
    };
    for (i = 0; i < (int)(sizeof wrong / sizeof *wrong); i++) {
        span_node_config config = {.size = sizeof config, .token = token};
        char why[256] = "";
        span_node *node = NULL;
        int fd = wrong[i].fd;
        ASSERT(fd >= 0);
        config.configuration = "apiVersion: span/v1\nkind: NodeConfig\nlistenPort: 0\ndiscovery:\n  bypassMesh: false\n";
        config.flags = wrong[i].flag | SPAN_NODE_FLAG_EPHEMERAL | SPAN_NODE_FLAG_NO_CONTROL_SOCKET;
        if (wrong[i].flag != SPAN_NODE_FLAG_TUN_FD)
            config.flags |= SPAN_NODE_FLAG_NETSTACK;
        config.tun_fd = config.udp4_fd = config.udp6_fd = fd;
        OK(span_node_new(&config, why, sizeof why, &node));
        EXPECT(SPAN_STATUS_START, span_node_start(node, why, sizeof why));
        ASSERT(strstr(why, wrong[i].says) != NULL);
        span_node_free(node);
        ASSERT(fcntl(fd, F_GETFD) >= 0);
    }
    for (i = 1; i < (int)(sizeof wrong / sizeof *wrong); i++)
        if (wrong[i].fd != ends[0])
            ASSERT(close(wrong[i].fd) == 0);
    ASSERT(close(ends[0]) == 0);
}

/* What the library hands out and what it was lent is the caller's to close, at any time. */
static void descriptors_closed_early(void)
{
    span_node_config config = {.size = sizeof config, .token = token, .flags = OWN | SPAN_NODE_FLAG_UDP4_FD};
    span_node_event event = {.size = sizeof event};
    span_listener *listener;
    span_stream *stream;
    span_endpoint address;
    span_node *node;
    int fd, again;

    config.udp4_fd = bound_socket(AF_INET, SOCK_DGRAM);
    OK(span_node_new(&config, NULL, 0, &node));
    ASSERT(close(config.udp4_fd) == 0 && close(config.udp4_fd) == -1 && errno == EBADF);
    OK(span_node_start(node, NULL, 0));

    OK(span_node_event_fd(node, &fd));
    ASSERT(close(fd) == 0);
    do
        OK(span_node_poll_event(node, &event));
    while (event.kind != SPAN_NODE_EVENT_KIND_NONE);

    OK(span_node_address(node, &address));
    OK(span_node_listen(node, &address, 0, &listener));
    OK(span_listener_fd(listener, &fd));
    OK(span_listener_fd(listener, &again));
    ASSERT(fd != again && close(fd) == 0);
    EXPECT(SPAN_STATUS_AGAIN, span_listener_accept(listener, &stream));
    ASSERT(!readable(again));
    span_listener_free(listener);
    /* Of something that was freed it is still the caller's to close. */
    ASSERT(close(again) == 0);
    span_node_free(node);
}

/* What each function says after the node has stopped, which its handles outlive. */
static void after_the_end(void)
{
    span_node_config config = {.size = sizeof config, .token = token, .flags = OWN};
    span_node_event event = {.size = sizeof event};
    span_endpoint address, any = {.family = 6};
    span_listener *listener, *no_listener = NULL;
    span_stream *stream, *no_stream = NULL;
    span_datagrams *socket, *no_socket = NULL;
    span_node *node;
    uint8_t byte = 0;
    size_t count;
    int fd;

    config.configuration = "apiVersion: span/v1\nkind: NodeConfig\nlistenPort: 0\ndiscovery:\n  bypassMesh: false\n";
    node = start(&config);
    OK(span_node_address(node, &address));
    address.port = 9;
    OK(span_node_listen(node, &address, 0, &listener));
    OK(span_node_datagrams(node, &any, &socket));
    address.address[15] ^= 1;
    OK(span_node_connect(node, &address, &stream));
    OK(span_node_stop(node));

    OK(span_node_stop(node));
    EXPECT(SPAN_STATUS_NOT_STARTED, span_node_start(node, NULL, 0));
    EXPECT(SPAN_STATUS_STOPPED, span_node_status(node, NULL, 0, &count));
    EXPECT(SPAN_STATUS_STOPPED, span_node_address(node, &address));
    EXPECT(SPAN_STATUS_STOPPED, span_node_resolve(node, "bob", &address));
    EXPECT(SPAN_STATUS_STOPPED, span_node_listen(node, &any, 0, &no_listener));
    EXPECT(SPAN_STATUS_STOPPED, span_node_datagrams(node, &any, &no_socket));
    EXPECT(SPAN_STATUS_STOPPED, span_node_connect(node, &address, &no_stream));
    ASSERT(no_listener == NULL && no_stream == NULL && no_socket == NULL);
    OK(span_node_event_fd(node, &fd));
    do {
        ASSERT(readable(fd));
        OK(span_node_poll_event(node, &event));
        ASSERT(event.kind != SPAN_NODE_EVENT_KIND_NONE);
    } while (event.kind != SPAN_NODE_EVENT_KIND_STOPPED);
    EXPECT(SPAN_STATUS_STOPPED, span_node_poll_event(node, &event));
    ASSERT(readable(fd) && close(fd) == 0);
    span_node_free(node);

    EXPECT(SPAN_STATUS_STOPPED, span_listener_accept(listener, &no_stream));
    EXPECT(SPAN_STATUS_STOPPED, span_stream_connected(stream));
    EXPECT(SPAN_STATUS_STOPPED, span_stream_read(stream, &byte, 1, &count));
    EXPECT(SPAN_STATUS_STOPPED, span_stream_write(stream, &byte, 1, &count));
    OK(span_stream_shutdown(stream, SPAN_STREAM_END_BOTH));
    EXPECT(SPAN_STATUS_STOPPED, span_datagrams_receive(socket, &byte, 1, &count, &address));
    EXPECT(SPAN_STATUS_STOPPED, span_datagrams_send(socket, &byte, 1, &any));
    OK(span_listener_local(listener, &address));
    ASSERT(address.port == 9);
    OK(span_datagrams_local(socket, &address));
    OK(span_stream_local(stream, &address));
    OK(span_stream_remote(stream, &address));
    /* Who waits with a descriptor made only now is woken at once. */
    OK(span_stream_read_fd(stream, &fd));
    ASSERT(readable(fd) && close(fd) == 0);
    span_listener_free(listener);
    span_stream_free(stream);
    span_datagrams_free(socket);
}

int main(void)
{
    size_t length;
    OK(span_token_generate("http://127.0.0.1:9", token, sizeof token, &length)); /* nobody is there */
    configurations();
    descriptors_of_a_wrong_kind();
    descriptors_closed_early();
    after_the_end();
    puts("ok");
    return 0;
}
