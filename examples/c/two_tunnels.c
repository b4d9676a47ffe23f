/* Two tunnels in one process: packets from one to the other, without a socket.
 *
 *     cc two_tunnels.c $(pkg-config --cflags --libs span) && ./a.out
 */
#include <span.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 8 };

static void check(const char *what, span_status status)
{
    if (status != SPAN_STATUS_OK) {
        fprintf(stderr, "%s: %s\n", what, span_status_text(status));
        exit(1);
    }
}

/* A tunnel with one peer, which has this prefix and is to be found there. */
static span_tunnel *make(const span_key *own, const span_key *others, const char *prefix, const char *where)
{
    span_tunnel_config config = {.size = sizeof config, .private_key = *own};
    span_peer_config peer = {.size = sizeof peer, .allowed_ips_count = 1};
    span_tunnel *tunnel;
    span_prefix allowed;
    uint64_t name;

    check("prefix", span_prefix_parse(prefix, &allowed));
    check("path", span_path_parse(where, &peer.path));
    check("public key", span_key_public(others, &peer.public_key));
    peer.allowed_ips = &allowed;
    check("tunnel", span_tunnel_new(&config, &tunnel));
    check("peer", span_tunnel_add_peer(tunnel, 0, &peer, &name));
    return tunnel;
}

/* The network: what one tunnel has to send reaches the other. Returns how many datagrams that were. */
static size_t carry(span_tunnel *sender, span_tunnel *receiver, const char *from)
{
    static uint8_t arena[BATCH * 2048];
    span_packet datagrams[BATCH];
    span_path path;
    size_t count, i;

    check("path", span_path_parse(from, &path));
    check("transmit", span_tunnel_poll_transmit(sender, 0, arena, sizeof arena, datagrams, BATCH, &count));
    for (i = 0; i < count; i++)
        datagrams[i].path = path;
    check("open", span_tunnel_open(receiver, 0, arena, sizeof arena, datagrams, count, NULL));
    for (i = 0; i < count; i++)
        if (datagrams[i].result == SPAN_PACKET_RESULT_PACKET)
            printf("a packet of %u bytes arrived after the handshake\n", (unsigned)datagrams[i].len);
    check("timeout", span_tunnel_handle_timeout(receiver, 0));
    return count;
}

int main(void)
{
    static const uint8_t packet[60] = {0x45, 0, 0, 60, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2};
    const size_t stride = span_datagram_len(sizeof packet, 0);
    uint8_t arena[BATCH * 128];
    span_packet packets[BATCH];
    span_tunnel *alice, *bob;
    span_key keys[2];
    size_t count, i;
    int turn;

    check("key", span_key_generate(&keys[0]));
    check("key", span_key_generate(&keys[1]));
    alice = make(&keys[0], &keys[1], "10.0.0.2/32", "192.0.2.2:51820");
    bob = make(&keys[1], &keys[0], "10.0.0.1/32", "192.0.2.1:51820");

    for (turn = 0; turn < 2; turn++) {
        /* A batch of equal packets, laid as the datagrams of one message will be. */
        memset(packets, 0, sizeof packets);
        for (i = 0; i < BATCH; i++) {
            packets[i].at = (uint32_t)(i * stride + SPAN_HEADROOM);
            packets[i].len = sizeof packet;
            memcpy(arena + packets[i].at, packet, sizeof packet);
        }
        check("seal", span_tunnel_seal(alice, 0, arena, sizeof arena, packets, BATCH, &count));
        printf("%u of %u packets sealed\n", (unsigned)count, (unsigned)BATCH);
        if (count == BATCH) {
            for (i = 0; i < BATCH; i++)
                check("path", span_path_parse("192.0.2.1:51820", &packets[i].path));
            check("open", span_tunnel_open(bob, 0, arena, sizeof arena, packets, BATCH, &count));
            printf("%u of %u packets opened\n", (unsigned)count, (unsigned)BATCH);
        }
        /* There was no session: the packets wait, and a handshake is on its way. */
        while (carry(alice, bob, "192.0.2.1:51820") + carry(bob, alice, "192.0.2.2:51820") > 0)
            ;
    }
    i = memcmp(arena + packets[BATCH - 1].at, packet, sizeof packet) == 0;
    puts(i ? "the last one is what was sent" : "the last one is damaged");
    span_tunnel_free(alice);
    span_tunnel_free(bob);
    return i && count == BATCH ? 0 : 1;
}
