/* Two nodes of a mesh in one process, each a host of its own: one greets the other over TCP. Needs no privileges.
 *
 *     cc two_nodes.c $(pkg-config --cflags --libs span) && ./a.out
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <span.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void check(const char *what, span_status status)
{
    if (status != SPAN_STATUS_OK) {
        fprintf(stderr, "%s: %s\n", what, span_status_text(status));
        exit(1);
    }
}

/* A socket on a free port of the loopback interface. */
static int bound_socket(int type, unsigned *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, type, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) || getsockname(fd, (struct sockaddr *)&address, &len)) {
        perror("socket");
        exit(1);
    }
    *port = ntohs(address.sin_port);
    return fd;
}

/* Waits until a descriptor of the library is readable, and closes it. */
static void wait_for(const char *what, span_status status, int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    check(what, status);
    if (poll(&wait, 1, 30000) != 1) {
        fprintf(stderr, "%s: nothing happened for 30 s\n", what);
        exit(1);
    }
    close(fd);
}

static span_node *start(const char *name, const char *token, unsigned discovery_port, int serve)
{
    char yaml[256], where[32], why[256];
    unsigned port;
    span_endpoint endpoint;
    span_node *node;
    span_node_config config = {.size = sizeof config};
    config.flags = SPAN_NODE_FLAG_NETSTACK | SPAN_NODE_FLAG_UDP4_FD | SPAN_NODE_FLAG_EPHEMERAL
        | SPAN_NODE_FLAG_NO_CONTROL_SOCKET;
    config.udp4_fd = bound_socket(SOCK_DGRAM, &port);
    config.token = token;
    config.name = name;
    snprintf(where, sizeof where, "127.0.0.1:%u", port); /* others would hardly reach it there */
    check("endpoint", span_endpoint_parse(where, &endpoint));
    config.endpoints = &endpoint;
    config.endpoints_count = 1;
    if (serve) {
        snprintf(yaml, sizeof yaml, "apiVersion: span/v1\nkind: NodeConfig\ndiscovery: {serve: '127.0.0.1:%u'}\n",
            discovery_port);
        config.configuration = yaml;
    }
    if (span_node_new(&config, why, sizeof why, &node) || span_node_start(node, why, sizeof why)) {
        fprintf(stderr, "%s: %s\n", name, why);
        exit(1);
    }
    close(config.udp4_fd); /* the node has one of its own */
    return node;
}

/* Reads events until the other node answers. */
static void wait_for_peer(const span_node *node)
{
    span_node_event event = {.size = sizeof event};
    int fd;
    do {
        check("descriptor", span_node_event_fd(node, &fd));
        wait_for("event", SPAN_STATUS_OK, fd);
        check("event", span_node_poll_event(node, &event));
    } while (event.kind != SPAN_NODE_EVENT_KIND_PEER_UP);
    printf("%s is there\n", event.name);
}

int main(void)
{
    static const char greeting[] = "hello through the mesh";
    char url[64], token[512], received[64] = {0};
    span_node *alice, *bob;
    span_listener *listener;
    span_stream *client, *server;
    span_endpoint address;
    span_status status;
    unsigned port;
    size_t length, count, done = 0;
    int fd;

    close(bound_socket(SOCK_STREAM, &port));
    snprintf(url, sizeof url, "http://127.0.0.1:%u", port);
    check("token", span_token_generate(url, token, sizeof token, &length));
    alice = start("alice", token, port, 1); /* serves discovery as well */
    bob = start("bob", token, port, 0);
    wait_for_peer(alice);
    wait_for_peer(bob);

    check("address", span_node_address(bob, &address));
    address.port = 7;
    check("listen", span_node_listen(bob, &address, 0, &listener));
    check("connect", span_node_connect(alice, &address, &client));
    while ((status = span_listener_accept(listener, &server)) == SPAN_STATUS_AGAIN) {
        status = span_listener_fd(listener, &fd);
        wait_for("accept", status, fd);
    }
    check("accept", status);
    check("write", span_stream_write(client, (const uint8_t *)greeting, sizeof greeting - 1, &count));
    check("shutdown", span_stream_shutdown(client, SPAN_STREAM_END_WRITE));
    do {
        status = span_stream_read(server, (uint8_t *)received + done, sizeof received - 1 - done, &count);
        if (status == SPAN_STATUS_AGAIN) {
            status = span_stream_read_fd(server, &fd);
            wait_for("read", status, fd);
            count = 1; /* not the end */
            continue;
        }
        check("read", status);
        done += count;
    } while (count > 0);
    printf("bob read: %s\n", received);

    span_stream_free(client);
    span_stream_free(server);
    span_listener_free(listener);
    check("stop", span_node_stop(alice));
    span_node_free(alice);
    span_node_free(bob);
    return strcmp(received, greeting) != 0;
}
