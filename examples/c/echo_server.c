/* A server inside the mesh: sends back to each of its clients what they send. The node is a host of its own in this
 * program, so it needs no privileges; one thread serves everybody, by poll(2).
 *
 *     cc echo_server.c $(pkg-config --cflags --libs span) -o echo_server
 *     ./echo_server PORT [CONFIGURATION FILE] [TOKEN]
 *
 * SIGINT and SIGTERM end it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <span.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Each has two descriptors here and two in the library: mind `ulimit -n`. Further clients wait in the listener. */
enum { MOST_CLIENTS = 200, BUFFER = 16384 };

/* A client. What it sent stands in its buffer until it is sent back, and no more is read before: a client that does
 * not read is soon not read from, and costs no more memory than any other. */
struct client {
    span_stream *stream;
    int read_fd, write_fd;
    size_t from, to;
    uint8_t bytes[BUFFER];
};

static struct client *clients[MOST_CLIENTS];
static size_t client_count;

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static void check(const char *what, span_status status)
{
    if (status != SPAN_STATUS_OK)
        fail(what, span_status_text(status));
}

static char *read_file(const char *path)
{
    char *text = NULL;
    size_t room = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL || getdelim(&text, &room, '\0', file) < 0)
        fail(path, errno ? strerror(errno) : "empty");
    fclose(file);
    return text;
}

static void drop_client(struct client *client)
{
    if (client->read_fd >= 0)
        close(client->read_fd);
    if (client->write_fd >= 0)
        close(client->write_fd);
    span_stream_free(client->stream); /* sends what is left to send, and the end */
    free(client);
}

static void add_client(span_stream *stream)
{
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        span_stream_free(stream);
        return;
    }
    client->stream = stream;
    client->read_fd = client->write_fd = -1;
    if (span_stream_read_fd(stream, &client->read_fd) || span_stream_write_fd(stream, &client->write_fd))
        drop_client(client); /* no descriptors left */
    else
        clients[client_count++] = client;
}

static void accept_clients(const span_listener *listener)
{
    span_stream *stream;
    while (client_count < MOST_CLIENTS && span_listener_accept(listener, &stream) == SPAN_STATUS_OK)
        add_client(stream);
}

/* Whether something of the client's waits to be sent back. */
static int is_full(const struct client *client)
{
    return client->from < client->to;
}

/* Reads once and writes once, so that everybody has a turn. Returns 0 when the connection is over. */
static int serve(struct client *client)
{
    span_status status;
    size_t count;
    if (!is_full(client)) {
        status = span_stream_read(client->stream, client->bytes, BUFFER, &count);
        if (status != SPAN_STATUS_OK)
            return status == SPAN_STATUS_AGAIN;
        if (count == 0)
            return 0; /* it has sent everything, and everything was sent back */
        client->from = 0;
        client->to = count;
    }
    status = span_stream_write(client->stream, client->bytes + client->from, client->to - client->from, &count);
    if (status == SPAN_STATUS_OK)
        client->from += count; /* perhaps not all of it */
    return status == SPAN_STATUS_OK || status == SPAN_STATUS_AGAIN;
}

static span_node *start(const span_node_config *config)
{
    span_node *node;
    char why[512] = "";
    span_status status = span_node_new(config, why, sizeof why, &node);
    if (status == SPAN_STATUS_OK)
        status = span_node_start(node, why, sizeof why);
    if (status != SPAN_STATUS_OK)
        fail(span_status_text(status), why);
    return node;
}

/* Takes the events there are. Returns 0 when the node has stopped. */
static int is_going(const span_node *node)
{
    span_node_event event = {.size = sizeof event};
    do {
        check("event", span_node_poll_event(node, &event));
        if (event.kind == SPAN_NODE_EVENT_KIND_STOPPED)
            return 0;
    } while (event.kind != SPAN_NODE_EVENT_KIND_NONE);
    return 1;
}

static void print_place(const span_node *node, uint16_t port)
{
    char text[INET6_ADDRSTRLEN];
    span_endpoint address;
    check("address", span_node_address(node, &address));
    printf("echo on [%s]:%u\n", inet_ntop(AF_INET6, address.address, text, sizeof text), (unsigned)port);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    enum { EVENTS, SIGNALS, LISTENER, FIRST_CLIENT };
    static struct pollfd fds[FIRST_CLIENT + MOST_CLIENTS];
    span_node_config config = {.size = sizeof config};
    span_endpoint any = {.family = 6}; /* all addresses of the node */
    span_listener *listener;
    span_node *node;
    sigset_t signals;
    char *file = NULL;
    int listener_fd, i;
    size_t at;

    if (argc < 3)
        fail("usage", "echo_server PORT [CONFIGURATION FILE] [TOKEN]");
    any.port = (uint16_t)strtol(argv[1], NULL, 10);
    config.flags = SPAN_NODE_FLAG_NETSTACK | SPAN_NODE_FLAG_EPHEMERAL | SPAN_NODE_FLAG_NO_CONTROL_SOCKET;
    for (i = 2; i < argc; i++) {
        if (strncmp(argv[i], "span1.", 6) == 0)
            config.token = argv[i];
        else
            config.configuration = file = read_file(argv[i]);
    }

    /* A descriptor tells of them, in place of handlers. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    if (sigprocmask(SIG_BLOCK, &signals, NULL) || (fds[SIGNALS].fd = signalfd(-1, &signals, SFD_CLOEXEC)) < 0)
        fail("signals", strerror(errno));
    node = start(&config);
    free(file);
    check("events", span_node_event_fd(node, &fds[EVENTS].fd));
    check("listen", span_node_listen(node, &any, 0, &listener));
    check("listen", span_listener_fd(listener, &listener_fd));
    print_place(node, any.port);

    do {
        fds[LISTENER].fd = client_count < MOST_CLIENTS ? listener_fd : -1;
        for (at = 0; at < client_count; at++)
            fds[FIRST_CLIENT + at].fd = is_full(clients[at]) ? clients[at]->write_fd : clients[at]->read_fd;
        for (at = 0; at < FIRST_CLIENT + client_count; at++)
            fds[at].events = POLLIN;
        if (poll(fds, FIRST_CLIENT + client_count, -1) < 0)
            fail("poll", strerror(errno));
        for (at = client_count; at-- > 0;) {
            if (fds[FIRST_CLIENT + at].revents && !serve(clients[at])) {
                drop_client(clients[at]);
                clients[at] = clients[--client_count]; /* which had its turn */
            }
        }
        if (fds[LISTENER].revents)
            accept_clients(listener);
    } while (!fds[SIGNALS].revents && (!fds[EVENTS].revents || is_going(node)));

    while (client_count > 0)
        drop_client(clients[--client_count]);
    close(listener_fd);
    span_listener_free(listener);
    close(fds[EVENTS].fd);
    close(fds[SIGNALS].fd);
    span_node_free(node);
    return 0;
}
