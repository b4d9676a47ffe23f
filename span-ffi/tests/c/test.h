/* What the tests in C share. */
#ifndef TEST_H
#define TEST_H

#include <span.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASSERT(condition)                                                                                    \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                  \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#define EXPECT(expected, call)                                                                               \
    do {                                                                                                     \
        span_status status_ = (call);                                                                        \
        if (status_ != (expected)) {                                                                         \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, span_status_text(status_));        \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#define OK(call) EXPECT(SPAN_STATUS_OK, call)

#define SECOND 1000000000ull

static inline span_key key_of(uint8_t byte)
{
    span_key key;
    memset(&key, byte, sizeof key);
    return key;
}

static inline span_key public_of(uint8_t byte)
{
    span_key private_key = key_of(byte), public_key;
    OK(span_key_public(&private_key, &public_key));
    return public_key;
}

/* A tunnel with the private key of this byte, at time 0, whose secrets are the same in every run. */
static inline span_tunnel *tunnel_of(uint8_t byte)
{
    span_tunnel_config config = {.size = sizeof config, .unix_time = 1700000000 * SECOND};
    span_tunnel *tunnel = NULL;
    config.private_key = key_of(byte);
    memset(config.seed, byte, sizeof config.seed);
    OK(span_tunnel_new(&config, &tunnel));
    ASSERT(tunnel != NULL);
    return tunnel;
}

/* Adds the peer with the private key of this byte. */
static inline uint64_t add_peer(span_tunnel *tunnel, uint8_t byte, const char *prefix, const char *where)
{
    span_peer_config config = {.size = sizeof config};
    span_prefix allowed;
    uint64_t peer = 0;
    config.public_key = public_of(byte);
    if (where != NULL)
        OK(span_path_parse(where, &config.path));
    if (prefix != NULL) {
        OK(span_prefix_parse(prefix, &allowed));
        config.allowed_ips = &allowed;
        config.allowed_ips_count = 1;
    }
    OK(span_tunnel_add_peer(tunnel, 0, &config, &peer));
    ASSERT(peer != SPAN_PEER_NONE);
    return peer;
}

/* Writes an IPv4 packet of `len` bytes from 10.0.0.source to 10.0.0.destination. */
static inline void ipv4(uint8_t *packet, size_t len, uint8_t source, uint8_t destination)
{
    size_t i;
    for (i = 20; i < len; i++)
        packet[i] = (uint8_t)i;
    memset(packet, 0, 20);
    packet[0] = 0x45;
    packet[2] = (uint8_t)(len >> 8);
    packet[3] = (uint8_t)len;
    packet[12] = packet[16] = 10;
    packet[15] = source;
    packet[19] = destination;
}

/* Carries what `sender` has to send to `receiver`, over this path. Returns how many datagrams. */
static inline size_t carry(span_tunnel *sender, span_tunnel *receiver, const char *from, uint64_t now)
{
    static uint8_t arena[1 << 18];
    span_packet datagrams[16];
    span_path path;
    size_t count, i;
    OK(span_path_parse(from, &path));
    OK(span_tunnel_poll_transmit(sender, now, arena, sizeof arena, datagrams, 16, &count));
    for (i = 0; i < count; i++)
        datagrams[i].path = path;
    OK(span_tunnel_open(receiver, now, arena, sizeof arena, datagrams, count, NULL));
    OK(span_tunnel_handle_timeout(receiver, now));
    return count;
}

#define ALICE "192.0.2.1:51820"
#define BOB "192.0.2.2:51820"

/* Exchanges datagrams until there are none. */
static inline void talk(span_tunnel *alice, span_tunnel *bob, uint64_t now)
{
    while (carry(alice, bob, ALICE, now) + carry(bob, alice, BOB, now) > 0)
        ;
}

#endif
