/* Mistakes with tunnels that the library can see have their status, and harm nothing. Those that can be made with any
 * function are in every_function.c. */
#include "test.h"

/* They need no memory, and counts that nobody wants no place. */
static void lists_of_nothing(void)
{
    span_tunnel *t = tunnel_of(1);
    uint64_t peer = add_peer(t, 2, NULL, NULL);
    size_t count = 77;

    OK(span_tunnel_seal(t, 0, NULL, 0, NULL, 0, NULL));
    OK(span_tunnel_open(t, 0, NULL, 0, NULL, 0, NULL));
    OK(span_tunnel_poll_transmit(t, 0, NULL, 0, NULL, 0, &count));
    OK(span_tunnel_set_candidates(t, 0, peer, NULL, 0));
    OK(span_tunnel_peers(t, NULL, 0, &count));
    ASSERT(count == 1);
    OK(span_tunnel_reseed(t, NULL));
    span_tunnel_free(t);
}

static void sizes(void)
{
    struct {
        span_tunnel_config config;
        uint64_t newer[2];
    } larger;
    span_peer_config peer;
    span_event event;
    span_tunnel *tunnel = NULL;
    uint64_t name;
    uint32_t wrong[] = {0, 1, sizeof(span_tunnel_config) - 1, 1 << 20, UINT32_MAX};
    size_t i;

    memset(&larger, 0, sizeof larger);
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        larger.config.size = wrong[i];
        EXPECT(SPAN_STATUS_STRUCT_SIZE, span_tunnel_new(&larger.config, &tunnel));
    }
    larger.config.size = sizeof larger;
    larger.newer[1] = 1;
    EXPECT(SPAN_STATUS_UNSUPPORTED, span_tunnel_new(&larger.config, &tunnel));
    ASSERT(tunnel == NULL);
    larger.newer[1] = 0;
    OK(span_tunnel_new(&larger.config, &tunnel));
    span_tunnel_free(tunnel);
    larger.config.reserved = 1;
    EXPECT(SPAN_STATUS_UNSUPPORTED, span_tunnel_new(&larger.config, &tunnel));
    larger.config.reserved = 0;
    larger.config.ciphers = 1u << 31;
    EXPECT(SPAN_STATUS_INVALID, span_tunnel_new(&larger.config, &tunnel));

    tunnel = tunnel_of(1);
    memset(&peer, 0, sizeof peer);
    EXPECT(SPAN_STATUS_STRUCT_SIZE, span_tunnel_add_peer(tunnel, 0, &peer, &name));
    peer.size = sizeof peer;
    EXPECT(SPAN_STATUS_INVALID, span_tunnel_add_peer(tunnel, 0, &peer, &name));
    peer.public_key = public_of(1);
    EXPECT(SPAN_STATUS_OWN_KEY, span_tunnel_add_peer(tunnel, 0, &peer, &name));
    peer.public_key = public_of(2);
    peer.cipher = 2;
    EXPECT(SPAN_STATUS_INVALID, span_tunnel_add_peer(tunnel, 0, &peer, &name));
    peer.cipher = 0;
    peer.path.kind = 4;
    EXPECT(SPAN_STATUS_INVALID, span_tunnel_add_peer(tunnel, 0, &peer, &name));
    peer.path.kind = 0;
    peer.allowed_ips_count = SIZE_MAX;
    EXPECT(SPAN_STATUS_NULL, span_tunnel_add_peer(tunnel, 0, &peer, &name));
    peer.allowed_ips = (const span_prefix *)&peer;
    EXPECT(SPAN_STATUS_INVALID, span_tunnel_add_peer(tunnel, 0, &peer, &name));
    OK(span_tunnel_peers(tunnel, NULL, 0, &i));
    ASSERT(i == 0);
    event.size = 4;
    EXPECT(SPAN_STATUS_STRUCT_SIZE, span_tunnel_poll_event(tunnel, &event));
    span_tunnel_free(tunnel);
}

static void misaligned(void)
{
    static uint64_t memory[64];
    unsigned char *odd = (unsigned char *)memory + 1;
    span_tunnel *t = tunnel_of(1);
    uint8_t arena[64] = {0};
    size_t count;

    EXPECT(SPAN_STATUS_MISALIGNED, span_tunnel_new((const void *)odd, &t));
    EXPECT(SPAN_STATUS_MISALIGNED, span_tunnel_seal(t, 0, arena, sizeof arena, (void *)odd, 1, &count));
    EXPECT(SPAN_STATUS_MISALIGNED, span_tunnel_open(t, 0, arena, sizeof arena, (void *)odd, 1, &count));
    EXPECT(SPAN_STATUS_MISALIGNED, span_tunnel_next_timeout(t, (void *)odd));
    EXPECT(SPAN_STATUS_MISALIGNED, span_tunnel_poll_event(t, (void *)odd));
    EXPECT(SPAN_STATUS_MISALIGNED, span_tunnel_handle_timeout((void *)odd, 0));
    /* Bytes may stand anywhere. */
    OK(span_key_generate((void *)odd));
    OK(span_tunnel_set_private_key(t, 0, (const void *)odd));
    span_tunnel_free(t);
}

static void peers_that_are_not(void)
{
    span_tunnel *t = tunnel_of(1);
    uint64_t removed = add_peer(t, 2, "10.0.0.2/32", BOB), second, unknown[4];
    span_packet packet;
    span_prefix prefix;
    uint8_t arena[128] = {0};
    span_key key = key_of(7);
    size_t i;

    OK(span_tunnel_remove_peer(t, removed));
    second = add_peer(t, 2, NULL, NULL);
    ASSERT(second != removed);
    unknown[0] = SPAN_PEER_NONE;
    unknown[1] = removed;
    unknown[2] = UINT64_MAX;
    unknown[3] = second + 1;
    OK(span_prefix_parse("10.0.0.2/32", &prefix));
    for (i = 0; i < 4; i++) {
        EXPECT(SPAN_STATUS_UNKNOWN_PEER, span_tunnel_remove_peer(t, unknown[i]));
        EXPECT(SPAN_STATUS_UNKNOWN_PEER, span_tunnel_set_preshared_key(t, unknown[i], &key));
        EXPECT(SPAN_STATUS_UNKNOWN_PEER, span_tunnel_add_allowed_ip(t, unknown[i], &prefix));
        EXPECT(SPAN_STATUS_UNKNOWN_PEER, span_tunnel_initiate(t, 0, unknown[i]));
    }
    memset(&packet, 0, sizeof packet);
    packet.at = SPAN_HEADROOM;
    packet.len = 20;
    packet.peer = removed;
    OK(span_tunnel_seal(t, 0, arena, sizeof arena, &packet, 1, NULL));
    ASSERT(packet.result == SPAN_PACKET_RESULT_UNKNOWN_PEER && packet.len == 20);
    /* One that went away with the key of its own name. */
    key = key_of(2);
    OK(span_tunnel_set_private_key(t, 0, &key));
    EXPECT(SPAN_STATUS_UNKNOWN_PEER, span_tunnel_initiate(t, 0, second));
    packet.peer = second;
    OK(span_tunnel_seal(t, 0, arena, sizeof arena, &packet, 1, NULL));
    ASSERT(packet.result == SPAN_PACKET_RESULT_UNKNOWN_PEER && packet.len == 20);
    EXPECT(SPAN_STATUS_INVALID, span_tunnel_remove_allowed_ip(t, add_peer(t, 3, NULL, NULL), &prefix));
    span_tunnel_free(t);
}

static void texts(void)
{
    static const char *const no_keys[] = {"", "x", "\xff\xfe", "0000000000000000000000000000000000000000000",
        "zz00000000000000000000000000000000000000000000000000000000000000"};
    static const char *const no_paths[] = {"", "192.0.2.1", "192.0.2.1:99999", "example.org:1", "[::1]"};
    static const char *const no_prefixes[] = {"", "10.0.0.1", "10.0.0.0/33", "fd00::/129", "/"};
    span_key key = key_of(5), before = key;
    span_path path;
    span_prefix prefix;
    char text[SPAN_KEY_TEXT];
    size_t i;

    for (i = 0; i < sizeof no_keys / sizeof *no_keys; i++)
        EXPECT(SPAN_STATUS_KEY_TEXT, span_key_parse(no_keys[i], &key));
    ASSERT(memcmp(&key, &before, sizeof key) == 0);
    for (i = 0; i < 5; i++) {
        EXPECT(SPAN_STATUS_ADDRESS_TEXT, span_path_parse(no_paths[i], &path));
        EXPECT(SPAN_STATUS_PREFIX_TEXT, span_prefix_parse(no_prefixes[i], &prefix));
    }
    OK(span_key_format(&key, text));
    memset(&key, 0, sizeof key);
    OK(span_key_parse(text, &key));
    ASSERT(strlen(text) == 44 && memcmp(&key, &before, sizeof key) == 0);
    OK(span_key_parse("0505050505050505050505050505050505050505050505050505050505050505", &key));
    ASSERT(memcmp(&key, &before, sizeof key) == 0);
    ASSERT(strcmp(span_status_text(SPAN_STATUS_OK), "ok") == 0);
    ASSERT(strlen(span_status_text((span_status)4711)) > 0);
    ASSERT(strcmp(span_drop_reason_name(SPAN_DROP_REASON_FORGED), "forged") == 0);
    ASSERT(strcmp(span_drop_reason_name(4711), "other") == 0);
}

static void lengths(void)
{
    static const struct {
        uint32_t at, len;
    } bad[] = {{15, 20}, {0, 20}, {16, 0}, {16, 81}, {16, 65536}, {16, UINT32_MAX}, {UINT32_MAX, UINT32_MAX},
        {UINT32_MAX, 1}, {65, 47}};
    span_tunnel *t = tunnel_of(1);
    uint64_t peer = add_peer(t, 2, "10.0.0.2/32", BOB), number;
    uint8_t *arena = malloc(112); /* the allocator sees what is written beyond it */
    span_packet packets[9];
    size_t count, i;

    ASSERT(arena != NULL);
    memset(arena, 0x45, 112);
    memset(packets, 0, sizeof packets);
    for (i = 0; i < 9; i++) {
        packets[i].at = bad[i].at;
        packets[i].len = bad[i].len;
        packets[i].peer = peer;
        OK(span_path_parse(BOB, &packets[i].path));
    }
    OK(span_tunnel_seal(t, 0, arena, 112, packets, 9, &count));
    for (i = 0; i < 9; i++)
        ASSERT(packets[i].result == SPAN_PACKET_RESULT_LENGTH && packets[i].len == bad[i].len);
    for (i = 2; i < 9; i++) {
        packets[i].result = 0;
        OK(span_tunnel_open(t, 0, arena, i == 8 ? 111 : 96, packets + i, 1, &count));
        ASSERT(packets[i].result == SPAN_PACKET_RESULT_LENGTH && count == 0);
    }
    /* What fits to the byte, and no path. */
    packets[0].at = SPAN_HEADROOM;
    packets[0].len = 80;
    OK(span_tunnel_seal(t, 0, arena, 112, packets, 1, &count));
    ASSERT(packets[0].result == SPAN_PACKET_RESULT_STAGED);
    memset(&packets[0].path, 0, sizeof packets[0].path);
    OK(span_tunnel_open(t, 0, arena, 112, packets, 1, &count));
    ASSERT(packets[0].result == SPAN_PACKET_RESULT_PATH);
    packets[0].path.kind = 99;
    OK(span_tunnel_open(t, 0, arena, 112, packets, 1, &count));
    ASSERT(packets[0].result == SPAN_PACKET_RESULT_PATH);
    EXPECT(SPAN_STATUS_INVALID, span_tunnel_seal(t, 0, arena, SIZE_MAX, packets, 1, &count));
    EXPECT(SPAN_STATUS_INVALID, span_tunnel_seal(t, 0, arena, 112, packets, SIZE_MAX / 8, &count));

    /* The initiation has 148 bytes. */
    EXPECT(SPAN_STATUS_NO_ROOM, span_tunnel_poll_transmit(t, 0, arena, 112, packets, 9, &count));
    OK(span_tunnel_next_timeout(t, &number));
    ASSERT(number == 0);
    arena = realloc(arena, 148);
    ASSERT(arena != NULL);
    OK(span_tunnel_poll_transmit(t, 0, arena, 148, packets, 9, &count));
    ASSERT(count == 1 && packets[0].at == 0 && packets[0].len == 148 && arena[0] == 1);
    ASSERT(span_datagram_len(65536, 0) == 0 && span_datagram_len(SPAN_PACKET_MAX, 65535) <= SPAN_DATAGRAM_MAX);
    EXPECT(SPAN_STATUS_INVALID, span_tunnel_dropped(t, SPAN_DROP_REASONS, &number));
    free(arena);
    span_tunnel_free(t);
}

int main(void)
{
    lists_of_nothing();
    sizes();
    misaligned();
    peers_that_are_not();
    texts();
    lengths();
    puts("ok");
    return 0;
}
