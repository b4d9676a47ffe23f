/* What tunnels do, seen from C. */
#include "test.h"

/* Lays `count` packets of `len` bytes from 10.0.0.source to 10.0.0.destination into the arena. */
static void lay(uint8_t *arena, span_packet *packets, size_t count, size_t stride, size_t len, uint8_t source,
    uint8_t destination)
{
    size_t i;
    memset(packets, 0, count * sizeof *packets);
    for (i = 0; i < count; i++) {
        packets[i].at = (uint32_t)(i * stride + SPAN_HEADROOM);
        packets[i].len = (uint32_t)len;
        ipv4(arena + packets[i].at, len, source, destination);
    }
}

static void came_from(span_packet *packets, size_t count, const char *where)
{
    size_t i;
    for (i = 0; i < count; i++)
        OK(span_path_parse(where, &packets[i].path));
}

static void all_are(const span_packet *packets, size_t count, span_packet_result result)
{
    size_t i;
    for (i = 0; i < count; i++)
        ASSERT(packets[i].result == (uint32_t)result);
}

static void connect_pair(span_tunnel **alice, span_tunnel **bob)
{
    *alice = tunnel_of(1);
    *bob = tunnel_of(2);
    OK(span_tunnel_initiate(*alice, 0, add_peer(*alice, 2, "10.0.0.2/32", BOB)));
    add_peer(*bob, 1, "10.0.0.1/32", NULL);
    talk(*alice, *bob, 0);
}

/* Side by side or apart, of any length: what goes in comes out. */
static void layouts(void)
{
    static uint8_t arena[32 * 2048], expected[2048];
    static const size_t lengths[] = {20, 21, 31, 32, 33, 64, 1419, 1420, 1500};
    span_tunnel *alice, *bob;
    span_packet packets[32];
    size_t i, j, k, apart, count;

    connect_pair(&alice, &bob);
    for (i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (apart = 0; apart < 2; apart++) {
            size_t len = lengths[i], datagram = span_datagram_len(len, 0);
            memset(arena, 0xff, sizeof arena); /* padding is cleared by the library */
            lay(arena, packets, 32, apart ? 2048 : datagram, len, 1, 2);
            OK(span_tunnel_seal(alice, 0, arena, sizeof arena, packets, 32, &count));
            ASSERT(count == 32);
            all_are(packets, 32, SPAN_PACKET_RESULT_DATA);
            for (j = 0; j < 32; j++) {
                ASSERT(packets[j].len == datagram && packets[j].path.port == 51820);
                ASSERT(packets[j].path.kind == SPAN_PATH_KIND_UDP4 && packets[j].path.remote[3] == 2);
                ASSERT(arena[packets[j].at] == 4);
            }
            came_from(packets, 32, ALICE);
            OK(span_tunnel_open(bob, 0, arena, sizeof arena, packets, 32, &count));
            ASSERT(count == 32);
            all_are(packets, 32, SPAN_PACKET_RESULT_PACKET);
            ipv4(expected, len, 1, 2);
            for (j = 0; j < 32; j++) {
                ASSERT(packets[j].len == len && memcmp(arena + packets[j].at, expected, len) == 0);
                for (k = len; k < datagram - 32; k++)
                    ASSERT(arena[packets[j].at + k] == 0);
            }
        }
    span_tunnel_free(alice);
    span_tunnel_free(bob);
}

/* A batch for several peers, with some that go nowhere. */
static void mixed(void)
{
    static uint8_t arena[16 * 256];
    span_tunnel *alice, *bob, *carol = tunnel_of(3);
    uint64_t to_bob, to_carol, found;
    span_packet packets[10];
    span_prefix prefix;
    span_key key;
    size_t count, i;

    connect_pair(&alice, &bob);
    to_carol = add_peer(alice, 3, "10.0.0.0/24", "192.0.2.3:51820");
    add_peer(carol, 1, "10.0.0.1/32", NULL);
    OK(span_tunnel_initiate(alice, 0, to_carol));
    talk(alice, carol, 0);
    key = public_of(2);
    OK(span_tunnel_find_peer(alice, &key, &to_bob));
    OK(span_prefix_parse("10.0.0.2/32", &prefix));
    OK(span_tunnel_route(alice, &prefix, &found));
    ASSERT(found == to_bob && found != to_carol);

    lay(arena, packets, 10, 256, 100, 1, 3);
    for (i = 0; i < 4; i += 2)
        ipv4(arena + packets[i].at, 100, 1, 2);
    ipv4(arena + packets[5].at, 100, 1, 2);
    packets[5].peer = to_carol;                         /* against the table */
    arena[packets[6].at + 16] = 11;                     /* 11.0.0.3 */
    arena[packets[7].at] = 0x75;
    packets[8].peer = 12345;
    packets[9].at = sizeof arena - 100;
    OK(span_tunnel_seal(alice, 0, arena, sizeof arena, packets, 10, &count));
    ASSERT(count == 6);
    all_are(packets, 6, SPAN_PACKET_RESULT_DATA);
    for (i = 0; i < 6; i++)
        ASSERT(packets[i].peer == (i == 0 || i == 2 ? to_bob : to_carol));
    ASSERT(packets[6].result == SPAN_PACKET_RESULT_NO_ROUTE);
    ASSERT(packets[7].result == SPAN_PACKET_RESULT_NOT_IP);
    ASSERT(packets[8].result == SPAN_PACKET_RESULT_UNKNOWN_PEER);
    ASSERT(packets[9].result == SPAN_PACKET_RESULT_LENGTH);

    came_from(packets, 6, ALICE);
    OK(span_tunnel_open(carol, 0, arena, sizeof arena, packets, 6, &count));
    ASSERT(count == 4);
    for (i = 0; i < 6; i++)
        ASSERT(packets[i].result
            == (i == 0 || i == 2 ? SPAN_PACKET_RESULT_DROPPED : SPAN_PACKET_RESULT_PACKET));
    ASSERT(packets[0].reason == SPAN_DROP_REASON_UNKNOWN_INDEX);
    OK(span_tunnel_dropped(carol, SPAN_DROP_REASON_UNKNOWN_INDEX, &found));
    ASSERT(found == 2);
    span_tunnel_free(alice);
    span_tunnel_free(bob);
    span_tunnel_free(carol);
}

/* Forged, replayed, from a wrong source: each is told from the others, in the middle of a burst too. */
static void attacks(void)
{
    static uint8_t arena[8 * 144], copy[8 * 144];
    span_tunnel *alice, *bob;
    span_packet packets[8], again[8];
    span_counters counters = {.size = sizeof counters};
    uint64_t dropped;
    size_t count;

    connect_pair(&alice, &bob);
    lay(arena, packets, 8, span_datagram_len(100, 0), 100, 1, 2);
    arena[packets[3].at + 15] = 9; /* from 10.0.0.9 */
    OK(span_tunnel_seal(alice, 0, arena, sizeof arena, packets, 8, &count));
    came_from(packets, 8, ALICE);
    arena[packets[5].at + 40] ^= 1;
    memcpy(copy, arena, sizeof arena);
    memcpy(again, packets, sizeof packets);
    OK(span_tunnel_open(bob, 0, arena, sizeof arena, packets, 8, &count));
    ASSERT(count == 6);
    ASSERT(packets[3].reason == SPAN_DROP_REASON_SOURCE_NOT_ALLOWED);
    ASSERT(packets[5].reason == SPAN_DROP_REASON_FORGED);
    OK(span_tunnel_open(bob, 0, copy, sizeof copy, again, 8, &count));
    ASSERT(count == 0);
    ASSERT(again[0].result == SPAN_PACKET_RESULT_DROPPED && again[0].reason == SPAN_DROP_REASON_REPLAYED);
    OK(span_tunnel_dropped(bob, SPAN_DROP_REASON_REPLAYED, &dropped));
    ASSERT(dropped == 7);
    OK(span_tunnel_counters(bob, &counters));
    ASSERT(counters.size == sizeof counters && counters.dropped == 10 && counters.initiations_accepted == 1);
    OK(span_tunnel_dropped(bob, SPAN_DROP_REASON_OTHER, &dropped));
    ASSERT(dropped == 0);
    span_tunnel_free(alice);
    span_tunnel_free(bob);
}

/* Timers run on the caller's clock, and say when they want it. */
static void timers(void)
{
    span_tunnel *alice, *bob;
    span_event event = {.size = sizeof event};
    span_peer_stats stats = {.size = sizeof stats};
    uint64_t when, peer, now = 0;
    int up = 0, wakes = 0;
    span_key key = public_of(2);

    connect_pair(&alice, &bob);
    OK(span_tunnel_find_peer(alice, &key, &peer));
    do {
        OK(span_tunnel_poll_event(alice, &event));
        up += event.kind == SPAN_EVENT_KIND_ESTABLISHED && event.peer == peer
            && event.path.kind == SPAN_PATH_KIND_UDP4;
    } while (event.kind != SPAN_EVENT_KIND_NONE);
    ASSERT(up == 1);
    OK(span_tunnel_set_keepalive(alice, 0, peer, 25));
    talk(alice, bob, 0);
    /* Two minutes of keepalives and a renewed session. */
    while (now < 150 * SECOND) {
        uint64_t other;
        OK(span_tunnel_next_timeout(alice, &when));
        OK(span_tunnel_next_timeout(bob, &other));
        when = when < other ? when : other;
        ASSERT(when != SPAN_NEVER && wakes++ < 100);
        now = when > now ? when : now;
        OK(span_tunnel_handle_timeout(alice, now));
        OK(span_tunnel_handle_timeout(bob, now));
        talk(alice, bob, now);
        do
            OK(span_tunnel_poll_event(alice, &event));
        while (event.kind != SPAN_EVENT_KIND_NONE);
        do
            OK(span_tunnel_poll_event(bob, &event));
        while (event.kind != SPAN_EVENT_KIND_NONE);
    }
    OK(span_tunnel_peer_stats(alice, now, peer, &stats));
    ASSERT(memcmp(&stats.public_key, &key, sizeof key) == 0);
    ASSERT(stats.keepalive == 25 && stats.session_age < 40 * SECOND && stats.cipher == 0);
    ASSERT(stats.last_handshake > 1700000100 * SECOND && stats.last_handshake < 1700000151 * SECOND);
    ASSERT(stats.tx_bytes >= 2 * 148 + 5 * 32 && stats.rx_bytes >= 2 * 92);
    OK(span_tunnel_unix_time(alice, now, &when));
    ASSERT(when == 1700000000 * SECOND + now);
    span_tunnel_free(alice);
    span_tunnel_free(bob);
}

/* The same clock, seed and calls give the same datagrams; another seed gives others. */
static void determinism(void)
{
    static uint8_t arenas[3][256];
    span_packet datagram;
    size_t count, i;

    for (i = 0; i < 3; i++) {
        span_tunnel *tunnel = tunnel_of(1);
        span_key more = key_of(8);
        uint64_t peer = add_peer(tunnel, 2, NULL, BOB);
        if (i == 2)
            OK(span_tunnel_reseed(tunnel, &more));
        OK(span_tunnel_initiate(tunnel, 0, peer));
        OK(span_tunnel_poll_transmit(tunnel, 0, arenas[i], 256, &datagram, 1, &count));
        ASSERT(count == 1 && datagram.result == SPAN_PACKET_RESULT_INITIATION && datagram.peer == peer);
        span_tunnel_free(tunnel);
    }
    ASSERT(memcmp(arenas[0], arenas[1], 148) == 0 && memcmp(arenas[0], arenas[2], 148) != 0);
}

/* Preshared keys and ciphers are what both sides say, or nothing comes of it. */
static void secrets(void)
{
    int agree;
    for (agree = 0; agree < 2; agree++) {
        span_tunnel_config config = {.size = sizeof config, .ciphers = 1u << SPAN_CIPHER_AES256_GCM};
        span_tunnel *alice = tunnel_of(1), *bob;
        span_peer_stats stats = {.size = sizeof stats};
        span_key key = key_of(9);
        uint64_t peer = add_peer(alice, 2, "10.0.0.2/32", BOB), other;

        config.private_key = key_of(2);
        OK(span_tunnel_new(&config, &bob));
        other = add_peer(bob, 1, "10.0.0.1/32", NULL);
        OK(span_tunnel_set_cipher(alice, 0, peer, SPAN_CIPHER_AES256_GCM));
        OK(span_tunnel_set_preshared_key(alice, peer, &key));
        if (agree)
            OK(span_tunnel_set_preshared_key(bob, other, &key));
        OK(span_tunnel_initiate(alice, 0, peer));
        talk(alice, bob, 0);
        OK(span_tunnel_peer_stats(alice, 0, peer, &stats));
        if (agree) {
            uint8_t arena[4 * 144], expected[100];
            span_packet packets[4];
            size_t count;
            ASSERT(stats.session_age == 0 && stats.cipher == SPAN_CIPHER_AES256_GCM);
            lay(arena, packets, 4, 144, 100, 1, 2);
            ipv4(expected, sizeof expected, 1, 2);
            OK(span_tunnel_seal(alice, 0, arena, sizeof arena, packets, 4, &count));
            ASSERT(count == 4);
            came_from(packets, 4, ALICE);
            OK(span_tunnel_open(bob, 0, arena, sizeof arena, packets, 4, &count));
            ASSERT(count == 4 && memcmp(arena + packets[3].at, expected, sizeof expected) == 0);
        } else
            ASSERT(stats.session_age == SPAN_NEVER && stats.last_handshake == 0);
        span_tunnel_free(alice);
        span_tunnel_free(bob);
    }
}

/* Several paths are tried at once, and the one that answers is used. */
static void candidates(void)
{
    static uint8_t arena[4096];
    span_tunnel *alice = tunnel_of(1), *bob = tunnel_of(2);
    uint64_t peer = add_peer(alice, 2, "10.0.0.2/32", NULL);
    span_event event = {.size = sizeof event};
    span_path paths[3];
    span_packet datagrams[8];
    size_t count, i, seen = 0;
    int up = 0;

    add_peer(bob, 1, "10.0.0.1/32", NULL);
    OK(span_path_parse("198.51.100.1:1", &paths[0]));
    OK(span_path_parse("[2001:db8::2]:51820", &paths[1]));
    memset(&paths[2], 0, sizeof paths[2]);
    paths[2].kind = SPAN_PATH_KIND_CUSTOM;
    paths[2].tag = 42;
    OK(span_tunnel_set_candidates(alice, 0, peer, paths, 3));
    OK(span_tunnel_poll_transmit(alice, 0, arena, sizeof arena, datagrams, 8, &count));
    for (i = 0; i < count; i++)
        if (datagrams[i].path.kind == SPAN_PATH_KIND_CUSTOM) {
            ASSERT(datagrams[i].result == SPAN_PACKET_RESULT_INITIATION && datagrams[i].path.tag == 42);
            datagrams[seen++] = datagrams[i];
        }
    ASSERT(seen == 1);
    OK(span_tunnel_open(bob, 0, arena, sizeof arena, datagrams, 1, NULL));
    ASSERT(datagrams[0].result == SPAN_PACKET_RESULT_HANDSHAKE);
    OK(span_tunnel_handle_timeout(bob, 0));
    OK(span_tunnel_poll_transmit(bob, 0, arena, sizeof arena, datagrams, 8, &count));
    ASSERT(count == 1 && datagrams[0].result == SPAN_PACKET_RESULT_RESPONSE && datagrams[0].path.tag == 42);
    OK(span_tunnel_open(alice, 0, arena, sizeof arena, datagrams, 1, NULL));
    OK(span_tunnel_handle_timeout(alice, 0));
    do {
        OK(span_tunnel_poll_event(alice, &event));
        up += event.kind == SPAN_EVENT_KIND_PEER_UP && event.peer == peer;
    } while (event.kind != SPAN_EVENT_KIND_NONE);
    ASSERT(up == 1);
    span_tunnel_free(alice);
    span_tunnel_free(bob);
}

static void allowed_ips(void)
{
    span_tunnel *tunnel = tunnel_of(1);
    uint64_t peer = add_peer(tunnel, 2, "10.0.0.0/24", NULL), other = add_peer(tunnel, 3, "fd00::/8", NULL), found;
    span_prefix prefix, list[2];
    size_t count;

    OK(span_prefix_parse("fd00::7/128", &prefix));
    ASSERT(prefix.family == 6 && prefix.length == 128 && prefix.address[15] == 7);
    OK(span_tunnel_route(tunnel, &prefix, &found));
    ASSERT(found == other);
    OK(span_tunnel_add_allowed_ip(tunnel, peer, &prefix));
    OK(span_tunnel_route(tunnel, &prefix, &found));
    ASSERT(found == peer);
    OK(span_tunnel_allowed_ips(tunnel, peer, list, 1, &count));
    ASSERT(count == 2 && list[0].family == 4 && list[0].length == 24);
    OK(span_tunnel_remove_allowed_ip(tunnel, peer, &prefix));
    OK(span_tunnel_clear_allowed_ips(tunnel, other));
    EXPECT(SPAN_STATUS_UNKNOWN_PEER, span_tunnel_route(tunnel, &prefix, &found));
    OK(span_prefix_parse("10.0.0.0/8", &prefix));
    EXPECT(SPAN_STATUS_INVALID, span_tunnel_route(tunnel, &prefix, &found));
    span_tunnel_free(tunnel);
}

int main(void)
{
    ASSERT(span_abi_version() == SPAN_ABI_VERSION && strlen(span_version()) >= 5);
    layouts();
    mixed();
    attacks();
    timers();
    determinism();
    secrets();
    candidates();
    allowed_ips();
    puts("ok");
    return 0;
}
