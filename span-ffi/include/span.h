/*
 * Span: WireGuard and encrypted meshes, for C.
 *
 * This file is written from the Rust source and carries its documentation. What holds everywhere:
 *
 * - Functions that can fail return a span_status. Results are written through the last arguments, and only on
 *   SPAN_STATUS_OK.
 * - What a pointer points to stays as it is during the call, unless the function changes it; the library keeps no
 *   pointer beyond the call. NULL is refused, except where documented and for lists of no elements.
 * - Structs that begin with `size` grow with the library. Set all bytes to 0 and `size` to sizeof: a program goes on
 *   working with a newer library, and with an older one unless it sets fields that that does not know.
 * - Handles are opaque. Freeing NULL does nothing. Handles and functions may move between threads; of one handle,
 *   calls that take it as const may run at the same time, others are refused with SPAN_STATUS_BUSY if they meet.
 * - The library does not call back, prints nothing, and sets no signal handler, logger or allocator. Should it meet a
 *   bug of its own, the call returns SPAN_STATUS_PANICKED, and so does every further one with the handle; only then
 *   does the Rust runtime write a line to standard error.
 *
 * A packet is sealed and opened where it stands, in memory that a batch shares, the arena:
 *
 *        at - 16          at                 at + len
 *     ------+-------------+------------------+-------------------------+-----
 *           |  headroom   |      packet      |  padding to 16 and tag  |
 *     ------+-------------+------------------+-------------------------+-----
 *           |<------------- datagram, span_datagram_len() bytes ------>|
 */


#ifndef SPAN_H
#define SPAN_H

#include <stddef.h>
#include <stdint.h>

// The version of this interface. It grows by one when a program that was built with an earlier header would no
// longer work; what is only added does not change it.
#define SPAN_ABI_VERSION 0

// Characters of a key in base64, with the NUL at the end.
#define SPAN_KEY_TEXT 45

// Characters of the texts in an event, with the NUL at the end.
#define SPAN_TEXT 256

// The time that never comes.
#define SPAN_NEVER UINT64_MAX

// One more than the largest span_drop_reason of this version.
#define SPAN_DROP_REASONS 21

// Bytes in front of a packet that sealing writes to.
#define SPAN_HEADROOM 16

// Bytes behind a packet that sealing writes to at most: padding and the tag.
#define SPAN_TAILROOM 31

// Bytes of the largest packet.
#define SPAN_PACKET_MAX 65535

// Bytes of the largest datagram.
#define SPAN_DATAGRAM_MAX 65582

// No peer.
#define SPAN_PEER_NONE 0

// What became of a call. The numbers never change.
enum span_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Done.
    SPAN_STATUS_OK = 0,
    // A pointer that must not be NULL is.
    SPAN_STATUS_NULL = 1,
    // A pointer is not aligned as its type wants it.
    SPAN_STATUS_MISALIGNED = 2,
    // The field `size` of a struct is smaller than the first version of the struct, or absurdly large.
    SPAN_STATUS_STRUCT_SIZE = 3,
    // A struct is newer than this library, and a field that the library does not know is set.
    SPAN_STATUS_UNSUPPORTED = 4,
    // An argument is out of its range; the documentation of the function says which.
    SPAN_STATUS_INVALID = 5,
    // The text is not a key: 44 characters of base64 or 64 hexadecimal digits.
    SPAN_STATUS_KEY_TEXT = 6,
    // The text is not an address with its port, as `192.0.2.1:51820` or `[2001:db8::1]:51820`.
    SPAN_STATUS_ADDRESS_TEXT = 7,
    // The text is not a prefix, as 10.0.0.0/24 or fd00::/64.
    SPAN_STATUS_PREFIX_TEXT = 8,
    // No such peer, or it was removed.
    SPAN_STATUS_UNKNOWN_PEER = 9,
    // The key is the tunnel's own: a tunnel cannot be its own peer.
    SPAN_STATUS_OWN_KEY = 10,
    // The memory lent is too small for what has to be written.
    SPAN_STATUS_NO_ROOM = 11,
    // Another thread is in a call with this handle. Nothing was done.
    SPAN_STATUS_BUSY = 12,
    // The library has a bug and met it, in this call or an earlier one with this handle. The handle can only
    // be freed.
    SPAN_STATUS_PANICKED = 13,
    // The operating system gave no randomness.
    SPAN_STATUS_ENTROPY = 14,
    // Not yet: it would have to wait. The descriptor that belongs to the call tells when to try again.
    SPAN_STATUS_AGAIN = 15,
    // The node, or what it is made of, has stopped.
    SPAN_STATUS_STOPPED = 16,
    // The node is not started yet, or has been already.
    SPAN_STATUS_NOT_STARTED = 17,
    // The configuration cannot be used. The text that came with it says why.
    SPAN_STATUS_CONFIG = 18,
    // The node did not start. The text that came with it says why.
    SPAN_STATUS_START = 19,
    // The node has no network stack of its own: its packets go to a TUN.
    SPAN_STATUS_NO_NETSTACK = 20,
    // Nobody listens there.
    SPAN_STATUS_REFUSED = 21,
    // The peer ended the connection at once.
    SPAN_STATUS_RESET = 22,
    // There is no way to that address.
    SPAN_STATUS_UNREACHABLE = 23,
    // No answer in time.
    SPAN_STATUS_TIMED_OUT = 24,
    // The address is taken.
    SPAN_STATUS_ADDRESS_IN_USE = 25,
    // It is no address of this node, or the node has none of that family.
    SPAN_STATUS_ADDRESS_NOT_AVAILABLE = 26,
    // As many connections or sockets as there may be.
    SPAN_STATUS_QUOTA = 27,
    // Writing after the writing half was shut down.
    SPAN_STATUS_BROKEN_PIPE = 28,
    // The connection is not open.
    SPAN_STATUS_NOT_CONNECTED = 29,
    // The operating system, or something else, failed.
    SPAN_STATUS_FAILED = 30,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum span_status span_status;
#else
typedef uint32_t span_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What a span_path is.
enum span_path_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // No path.
    SPAN_PATH_KIND_NONE = 0,
    // UDP over IPv4: the first four bytes of the addresses count.
    SPAN_PATH_KIND_UDP4 = 1,
    // UDP over IPv6.
    SPAN_PATH_KIND_UDP6 = 2,
    // A transport of the caller's own, which knows the path by its tag.
    SPAN_PATH_KIND_CUSTOM = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum span_path_kind span_path_kind;
#else
typedef uint32_t span_path_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What became of a packet or datagram.
enum span_packet_result
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Nothing yet. No call leaves it.
    SPAN_PACKET_RESULT_NONE = 0,
    // A datagram to be sent to `path`, which carries a packet.
    SPAN_PACKET_RESULT_DATA = 1,
    // A datagram to be sent: the first message of a handshake.
    SPAN_PACKET_RESULT_INITIATION = 2,
    // A datagram to be sent: the answer to it.
    SPAN_PACKET_RESULT_RESPONSE = 3,
    // A datagram to be sent: asks its receiver to prove its address.
    SPAN_PACKET_RESULT_COOKIE_REPLY = 4,
    // To be sent, a datagram that only says that this side is there; received, the same of the peer.
    SPAN_PACKET_RESULT_KEEPALIVE = 5,
    // A packet of the peer's for the inner side.
    SPAN_PACKET_RESULT_PACKET = 6,
    // A handshake message was taken in. Work on it is due now: span_tunnel_handle_timeout.
    SPAN_PACKET_RESULT_HANDSHAKE = 7,
    // The packet was copied and waits for a handshake; span_tunnel_poll_transmit will have it.
    SPAN_PACKET_RESULT_STAGED = 8,
    // The datagram was dropped, for `reason`. It is counted.
    SPAN_PACKET_RESULT_DROPPED = 9,
    // Not sealed: no peer has the packet's destination among its allowed IPs.
    SPAN_PACKET_RESULT_NO_ROUTE = 10,
    // Not sealed: not an IP packet.
    SPAN_PACKET_RESULT_NOT_IP = 11,
    // Not touched: the peer is not, or no longer, one of the tunnel's.
    SPAN_PACKET_RESULT_UNKNOWN_PEER = 12,
    // Not touched: it does not stand in the arena with the room it needs, is empty, or is too long.
    SPAN_PACKET_RESULT_LENGTH = 13,
    // Not touched: the path is none.
    SPAN_PACKET_RESULT_PATH = 14,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum span_packet_result span_packet_result;
#else
typedef uint32_t span_packet_result;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What happened. More may come: ignore what you do not know.
enum span_event_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Nothing more.
    SPAN_EVENT_KIND_NONE = 0,
    // A handshake is complete, over `path`.
    SPAN_EVENT_KIND_ESTABLISHED = 1,
    // The peer is sent to `path` from now on.
    SPAN_EVENT_KIND_PATH_CHANGED = 2,
    // A peer with candidates answers.
    SPAN_EVENT_KIND_PEER_UP = 3,
    // A peer with candidates has left every handshake unanswered for a while. It is tried further.
    SPAN_EVENT_KIND_PEER_DOWN = 4,
    // No handshake succeeded for 90 s: packets staged for the peer are dropped.
    SPAN_EVENT_KIND_HANDSHAKE_FAILED = 5,
    // `lost` events that nobody read gave way to newer ones.
    SPAN_EVENT_KIND_OVERFLOW = 6,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum span_event_kind span_event_kind;
#else
typedef uint32_t span_event_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Why a datagram or packet was dropped. The numbers never change.
enum span_drop_reason
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // A reason that this version of the interface has no number for.
    SPAN_DROP_REASON_OTHER = 0,
    // Not one of WireGuard's four messages, by type or length.
    SPAN_DROP_REASON_MALFORMED = 1,
    // The tunnel has no private key yet.
    SPAN_DROP_REASON_NO_PRIVATE_KEY = 2,
    // A handshake message without a valid first MAC: its sender does not know our public key.
    SPAN_DROP_REASON_INVALID_MAC1 = 3,
    // A handshake message over its source's allowance while the tunnel is under load.
    SPAN_DROP_REASON_RATE_LIMITED = 4,
    // The queue of handshake messages was full.
    SPAN_DROP_REASON_HANDSHAKE_QUEUE_FULL = 5,
    // The queue of cookie replies was full.
    SPAN_DROP_REASON_COOKIE_QUEUE_FULL = 6,
    // The receiver index belongs to no session or handshake of ours.
    SPAN_DROP_REASON_UNKNOWN_INDEX = 7,
    // An initiation from a public key that is not a peer's.
    SPAN_DROP_REASON_UNKNOWN_PEER = 8,
    // A handshake message or cookie reply that does not authenticate.
    SPAN_DROP_REASON_INVALID_HANDSHAKE = 9,
    // An initiation whose timestamp is not newer than the last one accepted.
    SPAN_DROP_REASON_STALE_INITIATION = 10,
    // An initiation within 20 ms of the last one accepted from that peer.
    SPAN_DROP_REASON_INITIATION_FLOOD = 11,
    // A session that is too old, or has used up its counters.
    SPAN_DROP_REASON_EXPIRED_SESSION = 12,
    // A data packet that does not authenticate.
    SPAN_DROP_REASON_FORGED = 13,
    // A data packet seen before, or too old to tell.
    SPAN_DROP_REASON_REPLAYED = 14,
    // The decrypted bytes are not an IP packet, or one longer than they are.
    SPAN_DROP_REASON_NOT_IP = 15,
    // The decrypted packet's source address is not the peer's.
    SPAN_DROP_REASON_SOURCE_NOT_ALLOWED = 16,
    // A staged packet gave way to a newer one.
    SPAN_DROP_REASON_STAGED_OVERFLOW = 17,
    // A staged packet waited for a session that never came.
    SPAN_DROP_REASON_STAGED_EXPIRED = 18,
    // An event nobody read gave way to a newer one.
    SPAN_DROP_REASON_EVENT_OVERFLOW = 19,
    // A datagram that arrived over a path inside the mesh itself.
    SPAN_DROP_REASON_FORBIDDEN_PATH = 20,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum span_drop_reason span_drop_reason;
#else
typedef uint32_t span_drop_reason;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A cipher suite. As a bit of span_tunnel_config, 1 << cipher.
enum span_cipher
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // ChaCha20-Poly1305, which every WireGuard speaks.
    SPAN_CIPHER_CHACHA20_POLY1305 = 0,
    // AES-256-GCM, which only Span speaks.
    SPAN_CIPHER_AES256_GCM = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum span_cipher span_cipher;
#else
typedef uint32_t span_cipher;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What a node does otherwise than `span up`. Bits of span_node_config.
enum span_node_flag
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // No interface is created: the program itself is the host, and talks by span_node_connect and the like. Needs no
    // privileges.
    SPAN_NODE_FLAG_NETSTACK = 1,
    // No interface is created: packets come from and go to `tun_fd`, a TUN opened with IFF_TUN | IFF_NO_PI |
    // IFF_VNET_HDR, whose addresses and routes are the caller's affair. Needs no privileges.
    SPAN_NODE_FLAG_TUN_FD = 2,
    // No socket is bound for IPv4: `udp4_fd` is one. If only one of the two is given, there is no other.
    SPAN_NODE_FLAG_UDP4_FD = 4,
    // No socket is bound for IPv6: `udp6_fd` is one, for IPv6 only, bound to the same port.
    SPAN_NODE_FLAG_UDP6_FD = 8,
    // Nothing is kept on disk: the node is `private_key`, or a new one if that is all zeros.
    SPAN_NODE_FLAG_EPHEMERAL = 16,
    // `span status` cannot ask this node.
    SPAN_NODE_FLAG_NO_CONTROL_SOCKET = 32,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum span_node_flag span_node_flag;
#else
typedef uint32_t span_node_flag;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What happened to a node. More may come: ignore what you do not know.
enum span_node_event_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Nothing more.
    SPAN_NODE_EVENT_KIND_NONE = 0,
    // A node of the cluster became known.
    SPAN_NODE_EVENT_KIND_MEMBER_JOINED = 1,
    // No source of members knows the node any more, and no tunnel to it works.
    SPAN_NODE_EVENT_KIND_MEMBER_LEFT = 2,
    // A member became a peer: a tunnel to it is tried.
    SPAN_NODE_EVENT_KIND_PEER_ADDED = 3,
    // A member is no peer any more.
    SPAN_NODE_EVENT_KIND_PEER_REMOVED = 4,
    // The tunnel to a peer works.
    SPAN_NODE_EVENT_KIND_PEER_UP = 5,
    // A peer leaves every handshake unanswered. It is tried further.
    SPAN_NODE_EVENT_KIND_PEER_DOWN = 6,
    // Datagrams to a peer go to `path` from now on.
    SPAN_NODE_EVENT_KIND_PATH_CHANGED = 7,
    // A source of members works.
    SPAN_NODE_EVENT_KIND_DISCOVERY_UP = 8,
    // A source of members does not work, for `reason`. It is tried further.
    SPAN_NODE_EVENT_KIND_DISCOVERY_DOWN = 9,
    // `lost` events before the next were lost, because nobody took them in time. span_node_status tells how things
    // are now.
    SPAN_NODE_EVENT_KIND_OVERFLOW = 10,
    // The node has ended, because it was asked to, or for `reason`. Nothing follows.
    SPAN_NODE_EVENT_KIND_STOPPED = 11,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum span_node_event_kind span_node_event_kind;
#else
typedef uint32_t span_node_event_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Which half of a stream is shut down.
enum span_stream_end
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // What arrives is dropped, and reading gives the end.
    SPAN_STREAM_END_READ = 0,
    // The peer reads the end after what was written.
    SPAN_STREAM_END_WRITE = 1,
    // Both.
    SPAN_STREAM_END_BOTH = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum span_stream_end span_stream_end;
#else
typedef uint32_t span_stream_end;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A UDP socket inside the mesh. Its functions never wait and may be called by several threads at once, but
// span_datagrams_free.
typedef struct span_datagrams span_datagrams;

// A place that takes TCP connections inside the mesh. Its functions never wait and may be called by several threads at
// once, but span_listener_free.
typedef struct span_listener span_listener;

// A node of a mesh: it finds the other members and carries packets to them.
//
// Made by span_node_new, it does nothing until span_node_start. Then all functions that take a const span_node may
// run at the same time, on any threads; those that wait say so.
typedef struct span_node span_node;

// A TCP connection inside the mesh. Its functions never wait and may be called by several threads at once, but
// span_stream_free.
typedef struct span_stream span_stream;

// A WireGuard interface without its network: keys, peers, sessions and timers.
//
// It does nothing by itself. Hand in what happened, with the time: packets by span_tunnel_seal, datagrams by
// span_tunnel_open, a moment that has come by span_tunnel_handle_timeout. Then take out what there is, by
// span_tunnel_poll_transmit and span_tunnel_poll_event, and ask span_tunnel_next_timeout when to come back.
//
// Times are nanoseconds on a clock of the caller's that never goes back and goes on while the machine sleeps, as
// CLOCK_BOOTTIME does. The same clock, seed and calls give the same datagrams.
//
// Functions that take a const span_tunnel may run at the same time, the others only one at a time: a call that
// meets another is refused with SPAN_STATUS_BUSY.
typedef struct span_tunnel span_tunnel;

// A way to a peer. Fields that a kind does not use are zero.
typedef struct span_path {
    // SPAN_PATH_KIND_CUSTOM: the caller's name for it.
    uint64_t tag;
    // The peer's address, in network order.
    uint8_t remote[16];
    // The local address that datagrams leave from, in network order, if has_source is not 0.
    uint8_t source[16];
    // The scope of a link-local IPv6 address of the peer.
    uint32_t scope_id;
    // The interface that belongs to the local address; 0 where unknown.
    uint32_t interface;
    // A span_path_kind.
    uint32_t kind;
    // The peer's port, in the host's order.
    uint16_t port;
    // Not 0 if the local address is known: that datagrams arrived at. To be given to span_tunnel_open where
    // the socket tells it.
    uint16_t has_source;
} span_path;

// A range of addresses.
typedef struct span_prefix {
    // The address in network order; of an IPv4 address the first four bytes.
    uint8_t address[16];
    // 4 or 6.
    uint8_t family;
    // How many leading bits count.
    uint8_t length;
} span_prefix;

// A key: private, public or preshared. All zeros mean none.
typedef struct span_key {
    // The 32 bytes of the key.
    uint8_t bytes[32];
} span_key;

// An address with a port, of a program in the mesh.
typedef struct span_endpoint {
    // The address in network order; of an IPv4 address the first four bytes.
    uint8_t address[16];
    // The port, in the host's order.
    uint16_t port;
    // 4 or 6.
    uint16_t family;
} span_endpoint;

// What a node is made from. Begin with all zeros and set `size`, and one of `configuration` and `token` or both.
// Descriptors are duplicated: the caller closes its own whenever it likes after span_node_new.
typedef struct span_node_config {
    // sizeof(span_node_config).
    uint32_t size;
    // SPAN_NODE_FLAG_ bits.
    uint32_t flags;
    // The text of a configuration file as span up takes it; NULL for none.
    const char *configuration;
    // A token as span cluster new or span_token_generate makes it; NULL for none.
    const char *token;
    // The node's short name, in place of the configured one; NULL for that.
    const char *name;
    // Where others shall try to reach the node, besides the endpoints it finds out by itself.
    const struct span_endpoint *endpoints;
    // How many there are.
    size_t endpoints_count;
    // SPAN_NODE_FLAG_TUN_FD: the TUN.
    int tun_fd;
    // SPAN_NODE_FLAG_UDP4_FD: the socket.
    int udp4_fd;
    // SPAN_NODE_FLAG_UDP6_FD: the socket.
    int udp6_fd;
    // Events that are kept until they are taken; 1024 if zero.
    uint32_t events;
    // SPAN_NODE_FLAG_EPHEMERAL: who the node is.
    struct span_key private_key;
} span_node_config;

// Something that happened to a node. Texts are UTF-8, end in a NUL, and are cut off where they do not fit.
typedef struct span_node_event {
    // sizeof(span_node_event), set before the call; after it, how many bytes the library wrote.
    uint32_t size;
    // A span_node_event_kind.
    uint32_t kind;
    // SPAN_NODE_EVENT_KIND_OVERFLOW: how many.
    uint64_t lost;
    // SPAN_NODE_EVENT_KIND_PATH_CHANGED: where to.
    struct span_path path;
    // The key of the peer it is about.
    struct span_key public_key;
    // The name of the member or peer, or the source of members: a URL, a path.
    char name[SPAN_TEXT];
    // The member's id in discovery.
    char node_id[SPAN_TEXT];
    // Why.
    char reason[SPAN_TEXT];
    // The overlay address of the peer it is about, with port 0; family 0 if it has none.
    struct span_endpoint address;
    // Reserved.
    uint32_t reserved;
} span_node_event;

// What a tunnel is made with. Begin with all zeros and set `size`; zero is a good value for every other field.
typedef struct span_tunnel_config {
    // sizeof(span_tunnel_config).
    uint32_t size;
    // The largest packet of the inner side; 1420 if zero. Packets are not padded beyond it.
    uint16_t mtu;
    // Reserved.
    uint16_t reserved;
    // The time now, in nanoseconds on the caller's clock.
    uint64_t now;
    // The time now, in nanoseconds since 1970; the operating system is asked if zero. Handshakes carry it: let it
    // never be earlier than span_tunnel_unix_time was in the last run, or peers refuse them.
    uint64_t unix_time;
    // SPAN_CIPHER_ bits: the ciphers in which peers may begin sessions, besides WireGuard's own.
    uint32_t ciphers;
    // Reserved.
    uint32_t reserved2;
    // The private key; none yet if all zeros.
    struct span_key private_key;
    // 32 bytes of true randomness that nobody else knows, from which all secrets are drawn; the operating system
    // is asked if all zeros.
    uint8_t seed[32];
} span_tunnel_config;

// One packet or datagram of a batch, in memory that the batch shares, the *arena*. Calls turn one into the other
// where it stands, and say so here.
typedef struct span_packet {
    // Where it begins in the arena, in bytes.
    uint32_t at;
    // Its length in bytes.
    uint32_t len;
    // The peer it is for or from; SPAN_PEER_NONE where unknown.
    uint64_t peer;
    // Where it goes to or came from.
    struct span_path path;
    // What became of it: a span_packet_result.
    uint32_t result;
    // SPAN_PACKET_RESULT_DROPPED: why, a span_drop_reason.
    uint32_t reason;
} span_packet;

// Something that happened.
typedef struct span_event {
    // sizeof(span_event), set before the call; after it, how many bytes the library wrote.
    uint32_t size;
    // A span_event_kind.
    uint32_t kind;
    // To which peer; SPAN_PEER_NONE if it concerns all.
    uint64_t peer;
    // Over which path.
    struct span_path path;
    // SPAN_EVENT_KIND_OVERFLOW: how many.
    uint64_t lost;
} span_event;

// A peer as it is added. Begin with all zeros and set `size` and `public_key`; zero is a good value for every
// other field.
typedef struct span_peer_config {
    // sizeof(span_peer_config).
    uint32_t size;
    // Seconds between persistent keepalives; none if zero.
    uint16_t keepalive;
    // Reserved.
    uint16_t reserved;
    // The peer's name.
    struct span_key public_key;
    // The symmetric key mixed into handshakes; none if all zeros.
    struct span_key preshared_key;
    // Where the peer is, until it is heard from elsewhere; a path of no kind if that is not known.
    struct span_path path;
    // The span_cipher of sessions that this side begins; set what the peer is known to accept.
    uint32_t cipher;
    // Reserved.
    uint32_t reserved2;
    // The prefixes of the peer. One that another peer has is taken from it.
    const struct span_prefix *allowed_ips;
    // How many there are.
    size_t allowed_ips_count;
} span_peer_config;

// A peer as wg show has it.
typedef struct span_peer_stats {
    // sizeof(span_peer_stats), set before the call; after it, how many bytes the library wrote.
    uint32_t size;
    // The span_cipher of the session, if there is one.
    uint32_t cipher;
    // The peer's public key.
    struct span_key public_key;
    // Where the peer is sent to.
    struct span_path path;
    // When the last handshake was completed, in nanoseconds since 1970; 0 if none was.
    uint64_t last_handshake;
    // The age of the session in nanoseconds; SPAN_NEVER if there is none.
    uint64_t session_age;
    // Bytes of authentic datagrams received.
    uint64_t rx_bytes;
    // Bytes of datagrams sent.
    uint64_t tx_bytes;
    // Packets that wait for a session.
    uint32_t staged;
    // Seconds between persistent keepalives; 0 for none.
    uint32_t keepalive;
} span_peer_stats;

// Totals of a tunnel since it was made. Drops are in span_tunnel_dropped.
typedef struct span_counters {
    // sizeof(span_counters), set before the call; after it, how many bytes the library wrote.
    uint32_t size;
    // Reserved.
    uint32_t reserved;
    // Initiations written, retries included. One that goes over several paths counts once.
    uint64_t initiations_sent;
    // Initiations accepted and answered.
    uint64_t initiations_accepted;
    // Handshakes that this side began and completed.
    uint64_t responses_accepted;
    // Cookie replies written.
    uint64_t cookies_sent;
    // Cookie replies accepted.
    uint64_t cookies_accepted;
    // Handshakes given up after 90 s.
    uint64_t handshakes_failed;
    // Copies of initiations sent to candidates.
    uint64_t probes;
    // Events nobody read that gave way to newer ones.
    uint64_t events_lost;
    // All drops, whatever the reason.
    uint64_t dropped;
} span_counters;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The SPAN_ABI_VERSION that the library was built with. Any thread.
uint32_t span_abi_version(void);

// The version of the library, such as "0.1.0". Static. Any thread.
const char *span_version(void);

// Reads a path over UDP from a text such as `192.0.2.1:51820` or `[2001:db8::1]:51820`. No names are looked up. Any
// thread.
//
// SPAN_STATUS_ADDRESS_TEXT if the text is not an address with its port.
span_status span_path_parse(const char *text,
                            struct span_path *path);

// Reads a prefix from a text such as 10.0.0.0/24 or fd00::1/128; bits behind its length are cleared. Any thread.
//
// SPAN_STATUS_PREFIX_TEXT if the text is not a prefix.
span_status span_prefix_parse(const char *text,
                              struct span_prefix *prefix);

// Makes a private key from the operating system's randomness. Any thread.
//
// SPAN_STATUS_ENTROPY if there is none.
span_status span_key_generate(struct span_key *private_key);

// Makes a preshared key from the operating system's randomness. Any thread.
//
// SPAN_STATUS_ENTROPY if there is none.
span_status span_key_generate_preshared(struct span_key *preshared_key);

// The public key that belongs to a private key. Any thread.
span_status span_key_public(const struct span_key *private_key, struct span_key *public_key);

// Reads a key from 44 characters of base64, as wg prints them, or 64 hexadecimal digits. Any thread.
//
// SPAN_STATUS_KEY_TEXT if the text is neither.
span_status span_key_parse(const char *text, struct span_key *key);

// Writes a key as 44 characters of base64 and a NUL into `text`, which has SPAN_KEY_TEXT characters. Any thread.
//
// Of a private or preshared key that is a secret too.
span_status span_key_format(const struct span_key *key,
                            char *text);

// Makes a node, to be given to span_node_free in the end. Nothing is opened yet. Any thread.
//
// SPAN_STATUS_CONFIG if the configuration cannot be used: `why`, unless NULL, has `why_room` characters for a text that
// says what is wrong and where, cut off where it does not fit. SPAN_STATUS_INVALID for flags that do not exist or
// contradict each other, and descriptors that are not open.
span_status span_node_new(const struct span_node_config *config,
                          char *why,
                          size_t why_room,
                          struct span_node **node);

// Starts the node: identity, device, sockets, threads. Does not wait for other members; events tell of them. Signals are
// blocked in the node's threads: no handler of the program's runs there.
//
// SPAN_STATUS_START if something fails: `why`, unless NULL, has `why_room` characters for a text that says what, and what
// to do. Nothing of the node is left then, and it can only be freed. SPAN_STATUS_NOT_STARTED if it was started before.
span_status span_node_start(struct span_node *node,
                            char *why,
                            size_t why_room);

// Stops the node, and waits until all of it is gone, which takes seconds at most. Its connections end: reading and
// writing them returns SPAN_STATUS_STOPPED, and their descriptors are readable. Does nothing to a node that has stopped.
span_status span_node_stop(const struct span_node *node);

// Stops and frees a node; NULL is nothing to free. The handle is not to be used again. Streams, listeners and the like
// are freed by themselves, before or after.
//
// A node that another thread is in a call with is neither stopped nor freed, ever.
void span_node_free(struct span_node *node);

// How the node, its sources of members and its peers are doing, as JSON: what span status --json prints. Writes it, with
// a NUL, if `room` characters are enough, and an empty text otherwise; `length` says how long it is, without the NUL.
//
// SPAN_STATUS_STOPPED if the node has stopped.
span_status span_node_status(const struct span_node *node,
                             char *text,
                             size_t room,
                             size_t *length);

// The node's address in the mesh.
//
// SPAN_STATUS_STOPPED if the node has stopped.
span_status span_node_address(const struct span_node *node, struct span_endpoint *address);

// The overlay address of the member called `name`, this node included, with port 0: by its node name or its full host
// name, without regard to case, or by its id. A name is what a member says of itself, and only its key says who it is.
//
// SPAN_STATUS_UNKNOWN_PEER if nobody is called so, or several are. SPAN_STATUS_STOPPED if the node has stopped.
span_status span_node_resolve(const struct span_node *node,
                              const char *name,
                              struct span_endpoint *address);

// A UDP socket, to be given to span_datagrams_free; addresses as for span_node_listen.
//
// SPAN_STATUS_ADDRESS_IN_USE, SPAN_STATUS_ADDRESS_NOT_AVAILABLE, SPAN_STATUS_QUOTA, SPAN_STATUS_STOPPED,
// SPAN_STATUS_NO_NETSTACK.
span_status span_node_datagrams(const struct span_node *node,
                                const struct span_endpoint *local,
                                struct span_datagrams **datagrams);

// Sends one datagram.
//
// SPAN_STATUS_AGAIN if there is no room for it; then the descriptor of span_datagrams_send_fd tells. SPAN_STATUS_INVALID if
// it does not fit the MTU, SPAN_STATUS_ADDRESS_NOT_AVAILABLE, SPAN_STATUS_STOPPED.
span_status span_datagrams_send(const struct span_datagrams *datagrams,
                                const uint8_t *bytes,
                                size_t len,
                                const struct span_endpoint *remote);

// Receives one datagram, of which what does not fit `room` bytes is cut off; `count` says how many were written, `remote`
// who sent it.
//
// SPAN_STATUS_AGAIN if there is none; then the descriptor of span_datagrams_fd tells. SPAN_STATUS_STOPPED.
span_status span_datagrams_receive(const struct span_datagrams *datagrams,
                                   uint8_t *bytes,
                                   size_t room,
                                   size_t *count,
                                   struct span_endpoint *remote);

// Where it is bound; with the port it was given if it asked for none.
span_status span_datagrams_local(const struct span_datagrams *datagrams, struct span_endpoint *local);

// A descriptor that is readable, but after span_datagrams_receive returned SPAN_STATUS_AGAIN and as long as it would
// again. It is the caller's to close, and only to be polled.
span_status span_datagrams_fd(const struct span_datagrams *datagrams,
                              int *fd);

// A descriptor that is readable (not writable), but after span_datagrams_send returned SPAN_STATUS_AGAIN and as long as
// it would again. It is the caller's to close, and only to be polled.
span_status span_datagrams_send_fd(const struct span_datagrams *datagrams,
                                   int *fd);

// Closes and frees a UDP socket; NULL is nothing to free. The handle is not to be used again.
//
// One that another thread is in a call with is not freed, ever.
void span_datagrams_free(struct span_datagrams *datagrams);

// Reads an endpoint from a text such as `10.0.0.1:80` or `[fd00::1]:80`. No names are looked up. Any thread.
//
// SPAN_STATUS_ADDRESS_TEXT if the text is not an address with its port.
span_status span_endpoint_parse(const char *text, struct span_endpoint *endpoint);

// Takes the next event, SPAN_NODE_EVENT_KIND_NONE if there is none. All callers take from one queue; where it is full, the
// oldest give way, which is an event itself.
//
// SPAN_STATUS_STOPPED after SPAN_NODE_EVENT_KIND_STOPPED was taken.
span_status span_node_poll_event(const struct span_node *node,
                                 struct span_node_event *event);

// A descriptor that is readable while span_node_poll_event has something to tell. It is the caller's to close, and only
// to be polled: what is read from it or written to it confuses others.
span_status span_node_event_fd(const struct span_node *node,
                               int *fd);

// Listens for connections, to be given to span_listener_free. `[::]` stands for all addresses of the node, `0.0.0.0` for
// those of IPv4, port 0 for a free one. Up to `backlog` connections may wait to be accepted, 128 if zero.
//
// SPAN_STATUS_ADDRESS_IN_USE, SPAN_STATUS_ADDRESS_NOT_AVAILABLE, SPAN_STATUS_QUOTA, SPAN_STATUS_STOPPED,
// SPAN_STATUS_NO_NETSTACK.
span_status span_node_listen(const struct span_node *node,
                             const struct span_endpoint *local,
                             uint32_t backlog,
                             struct span_listener **listener);

// Takes the next connection, to be given to span_stream_free.
//
// SPAN_STATUS_AGAIN if there is none; then the descriptor of span_listener_fd tells. SPAN_STATUS_STOPPED.
span_status span_listener_accept(const struct span_listener *listener, struct span_stream **stream);

// Where it listens; with the port it was given if it asked for none.
span_status span_listener_local(const struct span_listener *listener, struct span_endpoint *local);

// A descriptor that is readable, but after span_listener_accept returned SPAN_STATUS_AGAIN and as long as it would
// again. It is the caller's to close, and only to be polled.
span_status span_listener_fd(const struct span_listener *listener,
                             int *fd);

// Closes and frees a listener; NULL is nothing to free. Connections that wait to be accepted are reset. The handle is not
// to be used again.
//
// One that another thread is in a call with is not freed, ever.
void span_listener_free(struct span_listener *listener);

// Begins a connection to a program in the mesh, to be given to span_stream_free. It need not be open to be written to or
// read from; span_stream_connected tells when it is.
//
// SPAN_STATUS_ADDRESS_NOT_AVAILABLE if the node has no address of that family, SPAN_STATUS_QUOTA, SPAN_STATUS_STOPPED,
// SPAN_STATUS_NO_NETSTACK.
span_status span_node_connect(const struct span_node *node,
                              const struct span_endpoint *remote,
                              struct span_stream **stream);

// SPAN_STATUS_OK if the connection is open, SPAN_STATUS_AGAIN while it is being opened; then the descriptor of
// span_stream_write_fd tells.
//
// SPAN_STATUS_REFUSED, SPAN_STATUS_TIMED_OUT, SPAN_STATUS_UNREACHABLE if it will not be.
span_status span_stream_connected(const struct span_stream *stream);

// Reads what has arrived, at most `room` bytes; `count` says how many. None are the end, if there is room for any.
//
// SPAN_STATUS_AGAIN if nothing has; then the descriptor of span_stream_read_fd tells. SPAN_STATUS_RESET,
// SPAN_STATUS_STOPPED and the like if the connection is over.
span_status span_stream_read(const struct span_stream *stream,
                             uint8_t *bytes,
                             size_t room,
                             size_t *count);

// Writes as many of the `len` bytes as there is room for; `count` says how many.
//
// SPAN_STATUS_AGAIN if there is room for none; then the descriptor of span_stream_write_fd tells.
// SPAN_STATUS_BROKEN_PIPE after the writing half was shut down, SPAN_STATUS_RESET, SPAN_STATUS_STOPPED and the like if
// the connection is over.
span_status span_stream_write(const struct span_stream *stream,
                              const uint8_t *bytes,
                              size_t len,
                              size_t *count);

// Ends one half of the connection or both, a span_stream_end.
//
// SPAN_STATUS_NOT_CONNECTED if it was never open.
span_status span_stream_shutdown(const struct span_stream *stream, uint32_t end);

// The address and port on this side.
span_status span_stream_local(const struct span_stream *stream, struct span_endpoint *local);

// The peer's address and port.
span_status span_stream_remote(const struct span_stream *stream, struct span_endpoint *remote);

// A descriptor that is readable, but after span_stream_read returned SPAN_STATUS_AGAIN and as long as it would again. It
// is the caller's to close, and only to be polled.
span_status span_stream_read_fd(const struct span_stream *stream,
                                int *fd);

// A descriptor that is readable (not writable), but after span_stream_write or span_stream_connected returned
// SPAN_STATUS_AGAIN and as long as it would again. It is the caller's to close, and only to be polled.
span_status span_stream_write_fd(const struct span_stream *stream, int *fd);

// Closes and frees a stream; NULL is nothing to free. What was written still arrives, if the node runs on. The handle is
// not to be used again.
//
// One that another thread is in a call with is not freed, ever.
void span_stream_free(struct span_stream *stream);

// Makes the token of a new cluster, whose members find each other at these discovery services: URLs with spaces in
// between, NULL for none. Writes it, with a NUL, if `room` characters are enough, and an empty text otherwise; `length`
// says how long it is, without the NUL. Any thread.
//
// Whoever has the token can join. SPAN_STATUS_INVALID if a service is not a URL, or there are more than 16.
span_status span_token_generate(const char *services,
                                char *token,
                                size_t room,
                                size_t *length);

// What a span_status means, in English. Static; a number that is none gives a text too. Any thread.
const char *span_status_text(uint32_t status);

// Makes a tunnel without peers, to be given to span_tunnel_free in the end. Any thread.
//
// SPAN_STATUS_ENTROPY if a seed is wanted from the operating system and there is none; SPAN_STATUS_INVALID for a
// cipher that does not exist.
span_status span_tunnel_new(const struct span_tunnel_config *config,
                            struct span_tunnel **tunnel);

// Frees a tunnel; NULL is nothing to free. The handle is not to be used again.
//
// A tunnel that another thread is in a call with is not freed, ever: that is a mistake of the caller's which
// costs memory instead of safety.
void span_tunnel_free(struct span_tunnel *tunnel);

// Sets the private key, none if all zeros. A peer with the same public key is removed. Sessions made with the
// former key go on receiving, but the next packet to each peer begins a handshake.
span_status span_tunnel_set_private_key(struct span_tunnel *tunnel,
                                        uint64_t now,
                                        const struct span_key *private_key);

// Does what is due: timers, and some of the handshake messages that wait. Then span_tunnel_poll_transmit may have
// datagrams and span_tunnel_poll_event events.
span_status span_tunnel_handle_timeout(struct span_tunnel *tunnel,
                                       uint64_t now);

// When the tunnel wants attention next: span_tunnel_handle_timeout, then span_tunnel_poll_transmit and
// span_tunnel_poll_event. A time that has passed means now, SPAN_NEVER that nothing happens by itself.
span_status span_tunnel_next_timeout(struct span_tunnel *tunnel, uint64_t *when);

// Takes datagrams that the tunnel sends by itself: handshakes, keepalives, packets that were staged. They are written
// to the arena one after the other, and each is described by one of `datagrams`, of which there are `room`; send
// them on their paths. `count` says how many there are. If it is `room`, there may be more.
//
// SPAN_STATUS_NO_ROOM if the arena has no room for the first one. SPAN_DATAGRAM_MAX bytes are enough for any.
span_status span_tunnel_poll_transmit(struct span_tunnel *tunnel,
                                      uint64_t now,
                                      uint8_t *arena,
                                      size_t arena_len,
                                      struct span_packet *datagrams,
                                      size_t room,
                                      size_t *count);

// Mixes 32 more bytes of true randomness into the tunnel's; the operating system's if NULL. A must after the machine
// was copied while it ran, as a virtual machine can be: two copies would draw the same keys.
//
// SPAN_STATUS_ENTROPY if the operating system is asked and has none.
span_status span_tunnel_reseed(struct span_tunnel *tunnel,
                               const struct span_key *seed);

// Corrects the wall clock, nanoseconds since 1970. One that was set back is ignored.
span_status span_tunnel_set_unix_time(struct span_tunnel *tunnel, uint64_t now, uint64_t unix_time);

// The tunnel's idea of the wall clock, nanoseconds since 1970. Keep it for the next span_tunnel_new.
span_status span_tunnel_unix_time(const struct span_tunnel *tunnel, uint64_t now, uint64_t *unix_time);

// The name of a span_drop_reason, as metrics have it: lower case, words joined by underscores. Static; any other
// number is "other". Any thread.
const char *span_drop_reason_name(uint32_t reason);

// How many datagrams and packets were dropped for a span_drop_reason since the tunnel was made.
//
// SPAN_STATUS_INVALID if there is no such reason.
span_status span_tunnel_dropped(const struct span_tunnel *tunnel, uint32_t reason, uint64_t *count);

// Takes the next event, SPAN_EVENT_KIND_NONE if there is none. Events are kept until they are taken, some thousands;
// then the oldest give way, which is an event itself.
span_status span_tunnel_poll_event(struct span_tunnel *tunnel,
                                   struct span_event *event);

// Opens datagrams where they stand.
//
// Each of the `count` datagrams stands in the `arena_len` bytes of the arena and came over its `path`. Those that
// came over one path, stand side by side and are of one length, as receive offload joins them, are opened
// together, which is faster.
//
// Afterwards each says what became of it. SPAN_PACKET_RESULT_PACKET: at its new place and length stands a packet of
// `peer`, whose source is one of that peer's allowed IPs. SPAN_PACKET_RESULT_HANDSHAKE: work is due, see
// span_tunnel_next_timeout. SPAN_PACKET_RESULT_DROPPED: nothing, for `reason`; what stands there is undefined.
//
// `opened`, unless NULL, says how many have become packets.
span_status span_tunnel_open(struct span_tunnel *tunnel,
                             uint64_t now,
                             uint8_t *arena,
                             size_t arena_len,
                             struct span_packet *datagrams,
                             size_t count,
                             size_t *opened);

// The length of the datagram that a packet of `len` bytes becomes, for a tunnel with this MTU (1420 if zero): 16
// bytes in front, padding to a multiple of 16 unless it would cross the MTU, 16 bytes behind. Any thread.
//
// Packets of one length, to one peer, whose distance in the arena is just this are sealed together, which is
// faster, and can leave as one message with segmentation offload.
size_t span_datagram_len(size_t len,
                         size_t mtu);

// Adds a peer, or changes the one with this public key: all but its path is set to what `config` says, its prefixes
// are added to those it has, and so is its path if there is one. `peer` is what it is called from then on. A name is
// never used again; that of a removed peer is SPAN_STATUS_UNKNOWN_PEER for ever.
//
// SPAN_STATUS_OWN_KEY if the public key is the tunnel's own; SPAN_STATUS_INVALID if it is all zeros, or for a path,
// prefix or cipher that does not exist.
span_status span_tunnel_add_peer(struct span_tunnel *tunnel,
                                 uint64_t now,
                                 const struct span_peer_config *config,
                                 uint64_t *peer);

// Removes a peer with all that belongs to it.
span_status span_tunnel_remove_peer(struct span_tunnel *tunnel, uint64_t peer);

// The peer with this public key.
span_status span_tunnel_find_peer(const struct span_tunnel *tunnel,
                                  const struct span_key *public_key,
                                  uint64_t *peer);

// The peer a packet to this address goes to: the one with the longest prefix that holds it. The address is a prefix
// of full length.
span_status span_tunnel_route(const struct span_tunnel *tunnel,
                              const struct span_prefix *address,
                              uint64_t *peer);

// Writes the names of as many peers as there is room for, and to `count` how many there are.
span_status span_tunnel_peers(const struct span_tunnel *tunnel, uint64_t *peers, size_t room, size_t *count);

// Sets the symmetric key that is mixed into handshakes from the next one on; none if all zeros.
span_status span_tunnel_set_preshared_key(struct span_tunnel *tunnel,
                                          uint64_t peer,
                                          const struct span_key *preshared_key);

// Sets the seconds between persistent keepalives; none if zero. Turning it on sends one at once.
span_status span_tunnel_set_keepalive(struct span_tunnel *tunnel,
                                      uint64_t now,
                                      uint64_t peer,
                                      uint16_t seconds);

// Sets the span_cipher of sessions that this side begins with the peer.
//
// SPAN_STATUS_INVALID for one that does not exist.
span_status span_tunnel_set_cipher(struct span_tunnel *tunnel, uint64_t now, uint64_t peer, uint32_t cipher);

// Sets where the peer is sent to, until it is heard from elsewhere; nowhere for a path of no kind. A handshake that
// waited for a path begins at once.
span_status span_tunnel_set_path(struct span_tunnel *tunnel,
                                 uint64_t now,
                                 uint64_t peer,
                                 const struct span_path *path);

// Gives the peer paths that may lead to it, the best first, in place of those given before. From then on the tunnel
// finds the way itself: where no path is known to work, all are tried at once, and one that falls silent is
// replaced. span_tunnel_poll_event tells of it.
span_status span_tunnel_set_candidates(struct span_tunnel *tunnel,
                                       uint64_t now,
                                       uint64_t peer,
                                       const struct span_path *paths,
                                       size_t count);

// Asks for a fresh handshake, at the earliest five seconds after the last one began.
span_status span_tunnel_initiate(struct span_tunnel *tunnel, uint64_t now, uint64_t peer);

// Gives a prefix to a peer, taking it from the one that had it.
span_status span_tunnel_add_allowed_ip(struct span_tunnel *tunnel,
                                       uint64_t peer,
                                       const struct span_prefix *prefix);

// Takes a prefix from a peer.
//
// SPAN_STATUS_INVALID if it was not the peer's.
span_status span_tunnel_remove_allowed_ip(struct span_tunnel *tunnel,
                                          uint64_t peer,
                                          const struct span_prefix *prefix);

// Takes all its prefixes from a peer.
span_status span_tunnel_clear_allowed_ips(struct span_tunnel *tunnel, uint64_t peer);

// Writes as many of a peer's prefixes as there is room for, IPv4 first, in order, and to `count` how many there are.
span_status span_tunnel_allowed_ips(const struct span_tunnel *tunnel,
                                    uint64_t peer,
                                    struct span_prefix *prefixes,
                                    size_t room,
                                    size_t *count);

// Seals packets where they stand.
//
// Each of the `count` packets stands in the `arena_len` bytes of the arena, with SPAN_HEADROOM bytes in front of it
// and SPAN_TAILROOM behind that are overwritten; exactly as many as span_datagram_len says will do. It is for
// `peer`, or, if that is SPAN_PEER_NONE, for the peer with the longest prefix that holds its destination.
//
// Afterwards each says what became of it. SPAN_PACKET_RESULT_DATA: at its new place and length stands a datagram to be
// sent on `path`. SPAN_PACKET_RESULT_STAGED: there is no session yet, a copy waits for one, and a handshake is due by
// span_tunnel_poll_transmit. Any other: not sent, the packet is as it was.
//
// `sealed`, unless NULL, says how many have become datagrams.
span_status span_tunnel_seal(struct span_tunnel *tunnel,
                             uint64_t now,
                             uint8_t *arena,
                             size_t arena_len,
                             struct span_packet *packets,
                             size_t count,
                             size_t *sealed);

// How a peer is configured and doing.
span_status span_tunnel_peer_stats(const struct span_tunnel *tunnel,
                                   uint64_t now,
                                   uint64_t peer,
                                   struct span_peer_stats *stats);

// What the tunnel has done so far.
span_status span_tunnel_counters(const struct span_tunnel *tunnel, struct span_counters *counters);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SPAN_H */
