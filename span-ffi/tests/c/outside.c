/* A program outside the repository: prints the first message of a handshake. */
#include <span.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    span_tunnel_config config = {.size = sizeof config};
    span_peer_config peer = {.size = sizeof peer};
    uint8_t arena[SPAN_DATAGRAM_MAX];
    span_packet datagram;
    span_tunnel *tunnel;
    span_key secret;
    uint64_t name;
    size_t count;

    if (span_abi_version() != SPAN_ABI_VERSION || span_key_generate(&config.private_key) || span_key_generate(&secret)
        || span_key_public(&secret, &peer.public_key) || span_path_parse("192.0.2.1:51820", &peer.path)
        || span_tunnel_new(&config, &tunnel))
        return 1;
    if (span_tunnel_add_peer(tunnel, 0, &peer, &name) || span_tunnel_initiate(tunnel, 0, name)
        || span_tunnel_poll_transmit(tunnel, 0, arena, sizeof arena, &datagram, 1, &count))
        return 2;
    printf("libspan %s: %zu datagram of %u bytes to port %u\n", span_version(), count, (unsigned)datagram.len,
        (unsigned)datagram.path.port);
    span_tunnel_free(tunnel);
    return 0;
}
