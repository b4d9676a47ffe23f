/* Nodes that come and go in one process leave nothing behind: pairs that find each other, carry a byte, and stop.
 *
 *     cycles PAIRS DIRECTORY
 */
#define _GNU_SOURCE
#include "test.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Until then the allocator and the libraries have what they keep. */
enum { WARM_UP = 50 };

/* Memory that may be there more at the end, in KiB: an allocator never gives everything back. A node that left no more
 * than one buffer of 64 KiB behind would make it 56 MiB. */
enum { SLACK = 8 << 10 };

static char members[512];

static int bound_socket(unsigned *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT(fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0);
    ASSERT(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    *port = ntohs(address.sin_port);
    return fd;
}

/* Each finds the other in a file. */
static void list_members(const unsigned ports[2])
{
    span_key key;
    char text[SPAN_KEY_TEXT];
    FILE *file = fopen(members, "w");
    int i;
    ASSERT(file != NULL);
    fputs("members:\n", file);
    for (i = 0; i < 2; i++) {
        key = public_of((uint8_t)(i + 1));
        OK(span_key_format(&key, text));
        fprintf(file, "  - publicKey: %s\n    addresses: [10.9.0.%d]\n    endpoints: [\"127.0.0.1:%u\"]\n", text, i + 1,
            ports[i]);
    }
    ASSERT(fclose(file) == 0);
}

static span_node *start(const char *token, uint8_t key, int fd)
{
    span_node_config config = {.size = sizeof config, .token = token, .udp4_fd = fd};
    char yaml[1024], why[256] = "";
    span_node *node = NULL;
    config.flags = SPAN_NODE_FLAG_NETSTACK | SPAN_NODE_FLAG_EPHEMERAL | SPAN_NODE_FLAG_NO_CONTROL_SOCKET
        | SPAN_NODE_FLAG_UDP4_FD;
    config.private_key = key_of(key);
    config.configuration = yaml;
    snprintf(yaml, sizeof yaml, "apiVersion: span/v1\nkind: NodeConfig\naddresses: [10.9.0.%u]\ndiscovery:\n  membersFile: %s\n",
        key, members);
    OK(span_node_new(&config, why, sizeof why, &node));
    OK(span_node_start(node, why, sizeof why));
    return node;
}

static void wait_for(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    ASSERT(poll(&wait, 1, 30000) == 1);
}

/* Until then there may be no way to the other. */
static void wait_for_peer(const span_node *node)
{
    span_node_event event = {.size = sizeof event};
    int fd;
    OK(span_node_event_fd(node, &fd));
    do {
        wait_for(fd);
        OK(span_node_poll_event(node, &event));
    } while (event.kind != SPAN_NODE_EVENT_KIND_PEER_UP);
    close(fd);
}

/* One byte from one to the other, and the end after it. */
static void carry_byte(const span_node *from, const span_node *to, uint8_t to_key)
{
    span_endpoint address;
    span_listener *listener;
    span_stream *client, *server;
    span_status status;
    uint8_t bytes[2] = {42, 0};
    size_t count;
    int fd;

    OK(span_endpoint_parse("0.0.0.0:1", &address));
    OK(span_node_listen(to, &address, 0, &listener));
    address.address[0] = 10;
    address.address[1] = 9;
    address.address[3] = to_key;
    OK(span_listener_fd(listener, &fd));
    OK(span_node_connect(from, &address, &client));
    while ((status = span_listener_accept(listener, &server)) == SPAN_STATUS_AGAIN)
        wait_for(fd);
    EXPECT(SPAN_STATUS_OK, status);
    close(fd);
    OK(span_stream_write_fd(client, &fd));
    while ((status = span_stream_write(client, bytes, 1, &count)) == SPAN_STATUS_AGAIN)
        wait_for(fd);
    EXPECT(SPAN_STATUS_OK, status);
    close(fd);
    OK(span_stream_shutdown(client, SPAN_STREAM_END_WRITE));
    OK(span_stream_read_fd(server, &fd));
    bytes[0] = 0;
    do {
        while ((status = span_stream_read(server, bytes + 1, 1, &count)) == SPAN_STATUS_AGAIN)
            wait_for(fd);
        EXPECT(SPAN_STATUS_OK, status);
        bytes[0] += (uint8_t)count;
    } while (count > 0);
    ASSERT(bytes[0] == 1 && bytes[1] == 42);
    close(fd);
    span_stream_free(client);
    span_stream_free(server);
    span_listener_free(listener);
}

static int entries(const char *path)
{
    DIR *directory = opendir(path);
    int count = 0;
    ASSERT(directory != NULL);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

/* Resident memory, in KiB. */
static long resident(void)
{
    char line[256];
    long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    ASSERT(status != NULL);
    while (kib == 0 && fgets(line, sizeof line, status) != NULL)
        sscanf(line, "VmRSS: %ld", &kib);
    fclose(status);
    ASSERT(kib > 0);
    return kib;
}

int main(int argc, char **argv)
{
    char token[512];
    size_t length;
    long cycle, cycles, memory = 0, now;
    int i, descriptors = 0, threads = 0;

    ASSERT(argc == 3);
    cycles = strtol(argv[1], NULL, 10);
    snprintf(members, sizeof members, "%s/members.yaml", argv[2]);
    OK(span_token_generate(NULL, token, sizeof token, &length));
    for (cycle = 0; cycle < cycles; cycle++) {
        unsigned ports[2];
        span_node *nodes[2];
        int fds[2];
        for (i = 0; i < 2; i++)
            fds[i] = bound_socket(&ports[i]);
        list_members(ports);
        for (i = 0; i < 2; i++) {
            nodes[i] = start(token, (uint8_t)(i + 1), fds[i]);
            close(fds[i]);
        }
        wait_for_peer(nodes[0]);
        wait_for_peer(nodes[1]);
        carry_byte(nodes[cycle % 2], nodes[1 - cycle % 2], (uint8_t)(2 - cycle % 2));
        if (cycle % 2 == 0)
            OK(span_node_stop(nodes[0]));
        for (i = 0; i < 2; i++)
            span_node_free(nodes[i]);
        if (cycle == WARM_UP) {
            descriptors = entries("/proc/self/fd");
            threads = entries("/proc/self/task");
            memory = resident();
        }
    }
    if (cycles <= WARM_UP)
        return 0; /* for those who look for leaks with a tool */
    /* A thread that was joined may take a moment to leave /proc. */
    for (i = 0; i < 6000 && entries("/proc/self/task") != threads; i++)
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    ASSERT(entries("/proc/self/task") == threads);
    ASSERT(entries("/proc/self/fd") == descriptors);
    now = resident();
    printf("%ld pairs: %d descriptors, %d threads, %ld KiB; before %ld KiB\n", cycles, descriptors - 2, threads - 2, now,
        memory);
    ASSERT(now < memory + SLACK);
    return 0;
}
