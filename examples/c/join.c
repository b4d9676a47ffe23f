/* Joins a mesh as a host of its own, without privileges: greets whoever connects, and reads everyone's greeting.
 *     cc join.c $(pkg-config --cflags --libs span) -o join && SPAN_TOKEN=span1.... ./join alice */
#include <poll.h>
#include <span.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "c";
    span_node_config config = {.size = sizeof config, .name = name, .token = getenv("SPAN_TOKEN"),
        .flags = SPAN_NODE_FLAG_NETSTACK | SPAN_NODE_FLAG_EPHEMERAL | SPAN_NODE_FLAG_NO_CONTROL_SOCKET,
        .configuration = "apiVersion: span/v1\nkind: NodeConfig\nlistenPort: 0\n"}; /* any port of the machine */
    span_node_event event = {.size = sizeof event};
    span_endpoint any = {.family = 6, .port = 7777};
    struct pollfd wait[3] = {{.events = POLLIN}, {.events = POLLIN}, {.events = POLLIN, .fd = -1}};
    span_stream *client, *server = NULL; /* one greeting is read at a time */
    char text[256] = "";
    span_listener *listener;
    span_node *node;
    size_t count;
    if (span_node_new(&config, text, sizeof text, &node) || span_node_start(node, text, sizeof text)
        || span_node_listen(node, &any, 0, &listener) || span_listener_fd(listener, &wait[0].fd)
        || span_node_event_fd(node, &wait[1].fd))
        return fprintf(stderr, "%s\n", text[0] ? text : "cannot listen"), 1;
    for (; poll(wait, 3, -1) > 0; fflush(stdout)) {
        if (span_listener_accept(listener, &client) == SPAN_STATUS_OK) {
            int length = snprintf(text, sizeof text, "hello from %.99s\n", name);
            span_stream_write(client, (uint8_t *)text, length, &count);
            span_stream_free(client); /* what was written arrives nevertheless */
        }
        if (!server && !span_node_poll_event(node, &event) && event.kind == SPAN_NODE_EVENT_KIND_PEER_UP) {
            event.address.port = 7777;
            if (span_node_connect(node, &event.address, &server) == SPAN_STATUS_OK)
                span_stream_read_fd(server, &wait[2].fd);
        }
        span_status status = server ? span_stream_read(server, (uint8_t *)text, sizeof text, &count) : SPAN_STATUS_AGAIN;
        if (status == SPAN_STATUS_OK && count > 0) {
            printf("%s: %.*s", name, (int)count, text);
        } else if (status != SPAN_STATUS_AGAIN) { /* that was all */
            span_stream_free(server);
            server = NULL;
            close(wait[2].fd);
            wait[2].fd = -1;
        }
        wait[1].events = server ? 0 : POLLIN; /* events wait until then */
    }
}
