/* A node in a program with an event loop: poll(2) over the node's events, signals and a timer.
 *
 *     cc node.c $(pkg-config --cflags --libs span) -o node
 *     ./node [-u] [-s SECONDS] [CONFIGURATION FILE] [TOKEN]
 *
 * -u does without privileges: no interface, and nothing is kept on disk. -s prints the node's status every so many
 * seconds, SIGHUP does it at once. SIGINT and SIGTERM end the program.
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
#include <sys/timerfd.h>
#include <unistd.h>

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

/* A descriptor that tells of signals, in place of their handlers. */
static int signal_descriptor(void)
{
    sigset_t signals;
    int fd;
    sigemptyset(&signals);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    if (sigprocmask(SIG_BLOCK, &signals, NULL) || (fd = signalfd(-1, &signals, SFD_CLOEXEC)) < 0)
        fail("signals", strerror(errno));
    return fd;
}

static int timer_descriptor(long seconds)
{
    struct itimerspec every = {.it_interval.tv_sec = seconds, .it_value.tv_sec = seconds};
    int fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC);
    if (fd < 0 || timerfd_settime(fd, 0, &every, NULL))
        fail("timer", strerror(errno));
    return fd;
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

static void print_status(const span_node *node)
{
    char *text = NULL;
    size_t room = 0, length;
    check("status", span_node_status(node, NULL, 0, &length));
    while (room <= length) { /* it may have grown since */
        room = length + 256;
        text = realloc(text, room);
        if (text == NULL)
            fail("status", "no memory");
        check("status", span_node_status(node, text, room, &length));
    }
    puts(text);
    free(text);
}

static void print_path(const span_node_event *event)
{
    char text[INET6_ADDRSTRLEN] = "?";
    inet_ntop(event->path.kind == SPAN_PATH_KIND_UDP4 ? AF_INET : AF_INET6, event->path.remote, text, sizeof text);
    printf("%s is at %s port %u\n", event->name, text, (unsigned)event->path.port);
}

/* Prints the events there are. Returns 0 when there will be no more, -1 if that is the node's own fault, else 1. */
static int print_events(const span_node *node)
{
    span_node_event event = {.size = sizeof event};
    for (;;) {
        check("event", span_node_poll_event(node, &event));
        switch (event.kind) {
        case SPAN_NODE_EVENT_KIND_NONE:
            return 1;
        case SPAN_NODE_EVENT_KIND_MEMBER_JOINED:
            printf("%s joined\n", event.name);
            break;
        case SPAN_NODE_EVENT_KIND_MEMBER_LEFT:
            printf("%s left\n", event.name);
            break;
        case SPAN_NODE_EVENT_KIND_PEER_UP:
            printf("%s is up\n", event.name);
            break;
        case SPAN_NODE_EVENT_KIND_PEER_DOWN:
            printf("%s is down\n", event.name);
            break;
        case SPAN_NODE_EVENT_KIND_PATH_CHANGED:
            print_path(&event);
            break;
        case SPAN_NODE_EVENT_KIND_DISCOVERY_UP:
            printf("%s works\n", event.name);
            break;
        case SPAN_NODE_EVENT_KIND_DISCOVERY_DOWN:
            printf("%s does not work: %s\n", event.name, event.reason);
            break;
        case SPAN_NODE_EVENT_KIND_OVERFLOW:
            printf("%llu events were lost\n", (unsigned long long)event.lost);
            break;
        case SPAN_NODE_EVENT_KIND_STOPPED:
            printf("stopped%s%s\n", event.reason[0] ? ": " : "", event.reason);
            return event.reason[0] ? -1 : 0;
        default: /* newer than this program, or of no interest to it */
            break;
        }
    }
}

int main(int argc, char **argv)
{
    enum { EVENTS, SIGNALS, TIMER, DESCRIPTORS };
    struct pollfd fds[DESCRIPTORS];
    struct signalfd_siginfo signal;
    span_node_config config = {.size = sizeof config};
    span_node *node;
    char *file = NULL;
    long seconds = 0;
    uint64_t ticks;
    int option, i, going = 1;

    while ((option = getopt(argc, argv, "us:")) != -1) {
        if (option == 'u')
            config.flags = SPAN_NODE_FLAG_NETSTACK | SPAN_NODE_FLAG_EPHEMERAL | SPAN_NODE_FLAG_NO_CONTROL_SOCKET;
        else if (option == 's')
            seconds = strtol(optarg, NULL, 10);
        else
            return 2;
    }
    for (; optind < argc; optind++) {
        if (strncmp(argv[optind], "span1.", 6) == 0)
            config.token = argv[optind];
        else
            config.configuration = file = read_file(argv[optind]);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);

    fds[SIGNALS].fd = signal_descriptor();
    fds[TIMER].fd = timer_descriptor(seconds);
    node = start(&config);
    free(file);
    check("events", span_node_event_fd(node, &fds[EVENTS].fd));
    for (i = 0; i < DESCRIPTORS; i++)
        fds[i].events = POLLIN;

    while (going > 0) {
        if (poll(fds, DESCRIPTORS, -1) < 0 && errno != EINTR)
            fail("poll", strerror(errno));
        if (fds[EVENTS].revents)
            going = print_events(node);
        if (fds[TIMER].revents && read(fds[TIMER].fd, &ticks, sizeof ticks) == sizeof ticks && going > 0)
            print_status(node);
        if (fds[SIGNALS].revents && read(fds[SIGNALS].fd, &signal, sizeof signal) == sizeof signal && going > 0) {
            if (signal.ssi_signo == SIGHUP)
                print_status(node);
            else
                check("stop", span_node_stop(node)); /* the last event ends the loop */
        }
    }
    for (i = 0; i < DESCRIPTORS; i++)
        close(fds[i].fd);
    span_node_free(node);
    return going < 0;
}
