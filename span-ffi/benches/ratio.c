/* The work of ratio.rs, done by a C program: every call of the library is one through libspan.so. */
#include <span.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 32 };

struct pair {
    span_tunnel *alice, *bob;
    uint64_t bob_at_alice;
    span_path alice_path;
};

static int carry(span_tunnel *sender, span_tunnel *receiver, const span_path *from)
{
    uint8_t arena[2048];
    span_packet datagrams[4];
    size_t count = 0, i;
    if (span_tunnel_poll_transmit(sender, 0, arena, sizeof arena, datagrams, 4, &count) != SPAN_STATUS_OK)
        return 0;
    for (i = 0; i < count; i++)
        datagrams[i].path = *from;
    span_tunnel_open(receiver, 0, arena, sizeof arena, datagrams, count, NULL);
    span_tunnel_handle_timeout(receiver, 0);
    return (int)count;
}

/* Two tunnels with a session; NULL if that fails. */
struct pair *pair_new(uint32_t cipher)
{
    struct pair *pair = calloc(1, sizeof *pair);
    span_tunnel_config config = {.size = sizeof config, .ciphers = 1u << cipher};
    span_peer_config peer = {.size = sizeof peer, .cipher = cipher, .allowed_ips_count = 1};
    span_key keys[2], public_keys[2];
    span_path paths[2];
    span_prefix prefix;
    uint64_t name;
    int i;

    if (pair == NULL)
        return NULL;
    span_path_parse("192.0.2.1:51820", &paths[0]);
    span_path_parse("192.0.2.2:51820", &paths[1]);
    for (i = 0; i < 2; i++) {
        span_key_generate(&keys[i]);
        span_key_public(&keys[i], &public_keys[i]);
    }
    for (i = 0; i < 2; i++) {
        span_tunnel **tunnel = i == 0 ? &pair->alice : &pair->bob;
        config.private_key = keys[i];
        span_tunnel_new(&config, tunnel);
        span_prefix_parse(i == 0 ? "10.0.0.2/32" : "10.0.0.1/32", &prefix);
        peer.allowed_ips = &prefix;
        peer.public_key = public_keys[1 - i];
        peer.path = paths[1 - i];
        span_tunnel_add_peer(*tunnel, 0, &peer, i == 0 ? &pair->bob_at_alice : &name);
    }
    pair->alice_path = paths[0];
    span_tunnel_initiate(pair->alice, 0, pair->bob_at_alice);
    while (carry(pair->alice, pair->bob, &paths[0]) + carry(pair->bob, pair->alice, &paths[1]) > 0)
        ;
    return pair;
}

void pair_free(struct pair *pair)
{
    span_tunnel_free(pair->alice);
    span_tunnel_free(pair->bob);
    free(pair);
}

/* Seals packets of `len` bytes that stand `stride` bytes apart; returns how many. */
size_t pair_seal(struct pair *pair, uint8_t *arena, size_t arena_len, size_t stride, size_t len, int lookup)
{
    span_packet packets[BATCH];
    size_t i, sealed = 0;
    for (i = 0; i < BATCH; i++) {
        packets[i].at = (uint32_t)(i * stride + SPAN_HEADROOM);
        packets[i].len = (uint32_t)len;
        packets[i].peer = lookup ? SPAN_PEER_NONE : pair->bob_at_alice;
    }
    span_tunnel_seal(pair->alice, 0, arena, arena_len, packets, BATCH, &sealed);
    return sealed;
}

/* Opens datagrams of `len` bytes that stand `stride` bytes apart; returns how many. */
size_t pair_open(struct pair *pair, uint8_t *arena, size_t arena_len, size_t stride, size_t len)
{
    span_packet datagrams[BATCH];
    size_t i, opened = 0;
    for (i = 0; i < BATCH; i++) {
        datagrams[i].at = (uint32_t)(i * stride);
        datagrams[i].len = (uint32_t)len;
        datagrams[i].path = pair->alice_path;
    }
    span_tunnel_open(pair->bob, 0, arena, arena_len, datagrams, BATCH, &opened);
    return opened;
}
