/* Joins a mesh as a host of its own, without privileges: greets whoever connects, and reads everyone's greeting.
 *     cc join.c $(pkg-config --cflags --libs span) -o join && SPAN_TOKEN=span1.... ./join alice */
#include <poll.h>
#include <span.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int address_of(const span_key *peer, const span_node *node, span_endpoint *address)
{
    static char json[1 << 20], text[64], ip[46], *at;
    size_t length;
    return !span_node_status(node, json, sizeof json, &length) && !span_key_format(peer, text)
        && (at = strstr(json, text)) && (at = strstr(at, "\"overlay_address\""))
        && sscanf(at, "\"overlay_address\":\"%45[^\"]", ip) == 1
        && snprintf(text, sizeof text, "[%s]:7777", ip) > 0 && !span_endpoint_parse(text, address);
}

int main(int argc, char **argv)
{
    char text[256] = "cannot listen", *name = argc > 1 ? argv[1] : "c";
    span_node_config config = {.size = sizeof config, .name = name, .token = getenv("SPAN_TOKEN"),
        .flags = SPAN_NODE_FLAG_NETSTACK | SPAN_NODE_FLAG_EPHEMERAL | SPAN_NODE_FLAG_NO_CONTROL_SOCKET,
        .configuration = "apiVersion: span/v1\nkind: NodeConfig\nlistenPort: 0\n"}; /* any port of the machine */
    span_endpoint any = {.family = 6, .port = 7777}, peer;
    struct pollfd wait[2] = {{.events = POLLIN}, {.events = POLLIN}};
    span_node_event event = {.size = sizeof event};
    span_stream *client, *stream = NULL; /* one greeting is read at a time */
    span_node *node;
    span_listener *listener;
    size_t count;
    if (span_node_new(&config, text, sizeof text, &node) || span_node_start(node, text, sizeof text)
        || span_node_listen(node, &any, 0, &listener) || span_listener_fd(listener, &wait[0].fd))
        return fprintf(stderr, "%s\n", text), 1;
    for (span_node_event_fd(node, &wait[1].fd); poll(wait, 2, -1) > 0; fflush(stdout)) {
        if (!span_listener_accept(listener, &client)) /* what was written arrives although the stream is freed */
            span_stream_write(client, (uint8_t *)text, sprintf(text, "hello from %.99s\n", name), &count),
                span_stream_free(client);
        if (!stream && !span_node_poll_event(node, &event) && event.kind == SPAN_NODE_EVENT_KIND_PEER_UP
            && address_of(&event.public_key, node, &peer) && !span_node_connect(node, &peer, &stream))
            close(wait[1].fd), span_stream_read_fd(stream, &wait[1].fd);
        span_status status = stream ? span_stream_read(stream, (uint8_t *)text, sizeof text, &count) : SPAN_STATUS_AGAIN;
        if (status == SPAN_STATUS_OK && count > 0)
            printf("%s: %.*s", name, (int)count, text);
        else if (status != SPAN_STATUS_AGAIN)
            span_stream_free(stream), stream = NULL, close(wait[1].fd), span_node_event_fd(node, &wait[1].fd);
    }
}
