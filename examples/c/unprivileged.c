/* A node that needs no privileges, although it has an interface: the program opens the interface and the sockets, gives
 * up all it may for good, and hands the descriptors to the node. A program that gets them from a parent or from systemd
 * does no more than the second half.
 *
 *     cc unprivileged.c $(pkg-config --cflags --libs span) -o unprivileged
 *     sudo ./unprivileged INTERFACE PORT TOKEN
 *
 * It prints the node's address, which whoever may gives to the interface: `ip addr add ADDRESS/64 dev INTERFACE`.
 * SIGINT and SIGTERM end it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <span.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const uid_t NOBODY = 65534;

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

/* Fails if a call of the system did. */
static int must(const char *what, int result)
{
    if (result < 0)
        fail(what, strerror(errno));
    return result;
}

static void check(const char *what, span_status status)
{
    if (status != SPAN_STATUS_OK)
        fail(what, span_status_text(status));
}

static int open_tun(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    int fd = must("/dev/net/tun", open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    must(name, ioctl(fd, TUNSETIFF, &request));
    return fd;
}

static int open_socket(int family, uint16_t port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int fd = must("socket", socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0)), on = 1;
    if (family == AF_INET6)
        must("socket", setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on));
    must("port", family == AF_INET ? bind(fd, (struct sockaddr *)&v4, sizeof v4)
                                   : bind(fd, (struct sockaddr *)&v6, sizeof v6));
    return fd;
}

/* Becomes nobody, who can get nothing back. Capabilities go with the user. */
static void give_up_privileges(void)
{
    must("groups", setgroups(0, NULL));
    must("group", setresgid(NOBODY, NOBODY, NOBODY));
    must("user", setresuid(NOBODY, NOBODY, NOBODY));
    must("privileges", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

/* The port that a text names; 0 if it names none. */
static uint16_t parse_port(const char *text)
{
    char *end;
    unsigned long port = strtoul(text, &end, 10);
    return *end == '\0' && port <= UINT16_MAX ? (uint16_t)port : 0;
}

static int signal_descriptor(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    must("signals", sigprocmask(SIG_BLOCK, &signals, NULL));
    return must("signals", signalfd(-1, &signals, SFD_CLOEXEC));
}

int main(int argc, char **argv)
{
    enum { EVENTS, SIGNALS, DESCRIPTORS };
    struct pollfd fds[DESCRIPTORS] = {{.events = POLLIN}, {.events = POLLIN}};
    struct signalfd_siginfo signal;
    span_node_config config = {.size = sizeof config};
    span_node_event event = {.size = sizeof event};
    span_endpoint address;
    span_node *node;
    char why[512] = "", text[INET6_ADDRSTRLEN];
    span_status status;
    uint16_t port;

    if (argc != 4 || (port = parse_port(argv[2])) == 0) {
        fprintf(stderr, "Usage: %s INTERFACE PORT TOKEN\n", argv[0]);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    fds[SIGNALS].fd = signal_descriptor();
    config.flags = SPAN_NODE_FLAG_TUN_FD | SPAN_NODE_FLAG_UDP4_FD | SPAN_NODE_FLAG_UDP6_FD | SPAN_NODE_FLAG_EPHEMERAL |
                   SPAN_NODE_FLAG_NO_CONTROL_SOCKET;
    config.tun_fd = open_tun(argv[1]);
    config.udp4_fd = open_socket(AF_INET, port);
    config.udp6_fd = open_socket(AF_INET6, port);
    config.token = argv[3];
    give_up_privileges();

    status = span_node_new(&config, why, sizeof why, &node);
    /* The node has its own copies. */
    close(config.tun_fd);
    close(config.udp4_fd);
    close(config.udp6_fd);
    if (status == SPAN_STATUS_OK)
        status = span_node_start(node, why, sizeof why);
    if (status != SPAN_STATUS_OK)
        fail(span_status_text(status), why);
    check("events", span_node_event_fd(node, &fds[EVENTS].fd));
    check("address", span_node_address(node, &address));
    printf("at %s\n", inet_ntop(AF_INET6, address.address, text, sizeof text));

    while (event.kind != SPAN_NODE_EVENT_KIND_STOPPED) {
        if (poll(fds, DESCRIPTORS, -1) < 0 && errno != EINTR)
            fail("poll", strerror(errno));
        if (fds[SIGNALS].revents && read(fds[SIGNALS].fd, &signal, sizeof signal) == sizeof signal)
            check("stop", span_node_stop(node)); /* the last event ends the loop */
        do {
            check("event", span_node_poll_event(node, &event));
            if (event.kind == SPAN_NODE_EVENT_KIND_PEER_UP)
                printf("%s is up\n", event.name);
        } while (event.kind != SPAN_NODE_EVENT_KIND_NONE && event.kind != SPAN_NODE_EVENT_KIND_STOPPED);
    }
    if (event.reason[0])
        fail("stopped", event.reason);
    close(fds[EVENTS].fd);
    close(fds[SIGNALS].fd);
    span_node_free(node);
    return 0;
}
