use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoKind, LinkAttribute, LinkInfo, LinkMessage,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use thiserror::Error;
use tun_rs::{DeviceBuilder, SyncDevice};

use super::{Descriptor, Device};
use crate::netlink::Client;
use crate::offload::{MAX_PARTS, VirtioHeader};
use crate::route::link::change_mtu;
use crate::steering::Steering;
use crate::sys::{self, Offloads};

/// Longest interface name Linux takes, in bytes.
const MAX_NAME: usize = 15;

/// Frames the host may have waiting. A program that sends small packets in a row needs room for a hundred; of
/// super-packets these are some MiB, and whatever waits longer than it takes to wake us is delay and nothing
/// gained. The kernel's own choice is 500.
const QUEUE: u32 = 128;

/// The longest super-packets a kernel makes without being told of longer ones.
const MAX_GSO: u32 = 65_536;

/// A TUN interface with segmentation offload: one read gives up to 64 KiB.
///
/// The interface lives as long as this value, unless it was made persistent by others. It may be renamed, moved
/// to another network namespace or given another MTU by anyone; [`Device::refresh`] finds out.
pub struct Tun {
    handle: Handle,
    name: String,
    index: u32,
    mtu: u16,
    udp: bool,
    refused: u64,
    /// It was made with room for more queues, and the host steers flows to them.
    steered: bool,
    /// Asks about links in the namespace the interface is in.
    links: Client,
}

/// Who made the descriptor.
enum Handle {
    Created(SyncDevice),
    Given(OwnedFd),
}

/// Why a TUN interface could not be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name cannot be one of an interface.
    #[error("{name:?} is not an interface name: 1 to {MAX_NAME} bytes without spaces, '/' or ':'")]
    BadName {
        /// What was asked for.
        name: String,
    },
    /// An interface of another kind has the name.
    #[error("{name} exists already and is not a TUN interface ({kind}); remove it or choose another name")]
    NameTaken {
        /// What was asked for.
        name: String,
        /// What has the name, as `ip -d link` calls it.
        kind: String,
    },
    /// Another process has the interface open.
    #[error("{name} is in use by another process; stop that or choose another name")]
    InUse {
        /// What was asked for.
        name: String,
    },
    /// There is no `/dev/net/tun`.
    #[error(
        "this system has no /dev/net/tun: load the kernel's module (modprobe tun), or give the container the \
         device (--device /dev/net/tun)"
    )]
    NoTun,
    /// Not allowed.
    #[error("not allowed to make a network interface: run as root or with the capability CAP_NET_ADMIN")]
    NotPermitted,
    /// A descriptor that was brought along is not a TUN with `IFF_NO_PI | IFF_VNET_HDR`.
    #[error("the descriptor is not a TUN interface opened with IFF_TUN | IFF_NO_PI | IFF_VNET_HDR")]
    WrongDescriptor,
    /// Anything else the system said.
    #[error("cannot {action} the TUN interface")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// How a [`Tun`] is to be made.
#[derive(Clone, Debug)]
pub struct TunBuilder {
    name: String,
    mtu: Option<u16>,
    many_queues: bool,
}

impl TunBuilder {
    /// A new interface called `name`; `%d` in it is replaced by the first free number. A TUN interface that
    /// exists under this name and is not in use (`ip tuntap add`) is taken over.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), mtu: None, many_queues: false }
    }

    /// Sets the MTU, in bytes. Without it a new interface has 1500.
    pub fn mtu(mut self, mtu: u16) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// Lets the interface have more queues than one, see [`Device::another_queue`], where the host lets us steer
    /// flows to them: left alone, the kernel moves a flow to the queue its answers come in through, and what waits
    /// in the other is overtaken. Loading the few instructions that steer needs the capability CAP_BPF, or
    /// CAP_SYS_ADMIN before Linux 5.8; without it the interface has one queue.
    ///
    /// A persistent interface that is taken over must have been made for it (`ip tuntap add … multi_queue`).
    pub fn many_queues(mut self, wanted: bool) -> Self {
        self.many_queues = wanted;
        self
    }

    /// Makes the interface. It is left down, and without addresses.
    ///
    /// # Errors
    /// See [`OpenError`]; its text says what to do.
    pub fn open(self) -> Result<Tun, OpenError> {
        let bad = |byte: u8| byte.is_ascii_whitespace() || byte == b'/' || byte == b':' || byte == 0;
        if self.name.is_empty()
            || self.name.len() > MAX_NAME
            || self.name == "."
            || self.name == ".."
            || self.name.bytes().any(bad)
        {
            return Err(OpenError::BadName { name: self.name });
        }
        let mut links = Client::open(NETLINK_ROUTE).map_err(io_error("ask about"))?;
        if let Some(link) = find(&mut links, &self.name).map_err(io_error("ask about"))?
            && link.kind != "tun"
        {
            return Err(OpenError::NameTaken { name: self.name, kind: link.kind });
        }
        // Without it, more queues would do harm.
        let steering = if self.many_queues { Steering::load().ok() } else { None };
        let device = DeviceBuilder::new()
            .name(&self.name)
            .enable(false)
            .inherit_enable_state()
            .with(|linux| {
                linux.offload(true);
                linux.multi_queue(steering.is_some());
            })
            .build_sync()
            .map_err(|source| creation_error(&self.name, source))?;
        device.set_nonblocking(true).map_err(io_error("set up"))?;
        let udp = choose_offloads(&device)?;
        if let Some(steering) = &steering {
            steering.attach(&device).map_err(io_error("steer the flows of"))?;
        }
        let mut tun = Tun::adopt(Handle::Created(device), links, udp)?;
        tun.steered = steering.is_some();
        if let Some(mtu) = self.mtu {
            change_mtu(&mut tun.links, tun.index, mtu).map_err(io_error("set the MTU of"))?;
            tun.mtu = mtu;
        }
        quiet(&mut tun.links, tun.index);
        // One that refuses keeps what it has.
        let _ = change(&mut tun.links, tun.index, LinkAttribute::TxQueueLen(QUEUE));
        Ok(tun)
    }
}

impl Tun {
    /// Starts to describe a new interface.
    pub fn builder(name: impl Into<String>) -> TunBuilder {
        TunBuilder::new(name)
    }

    /// Takes over a descriptor an embedder opened itself, with `IFF_TUN | IFF_NO_PI | IFF_VNET_HDR` (and not
    /// `TUNSETVNETHDRSZ`). It becomes non-blocking, and its offloads are set.
    ///
    /// # Errors
    /// [`OpenError::WrongDescriptor`] if it is no such descriptor, [`OpenError::Io`] if the system refuses.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, OpenError> {
        let (_, flags) = sys::interface(&fd).map_err(|_| OpenError::WrongDescriptor)?;
        if !flags.is_tun() || !flags.has_virtio_header() {
            return Err(OpenError::WrongDescriptor);
        }
        rustix::io::ioctl_fionbio(&fd, true).map_err(|errno| io_error("set up")(errno.into()))?;
        let udp = choose_offloads(&fd)?;
        // It may come from anywhere. Kernels before 5.8 cannot say; then it is taken to be from here.
        let links = sys::namespace(&fd).and_then(client_at).or_else(|_| Client::open(NETLINK_ROUTE));
        Self::adopt(Handle::Given(fd), links.map_err(io_error("ask about"))?, udp)
    }

    fn adopt(handle: Handle, links: Client, udp: bool) -> Result<Self, OpenError> {
        let mut tun =
            Self { handle, name: String::new(), index: 0, mtu: 0, udp, refused: 0, steered: false, links };
        tun.refresh().map_err(io_error("ask about"))?;
        Ok(tun)
    }

    /// Asks about the interface where it was last, and where it is now if it is not there any more.
    fn find(&mut self, name: &str) -> io::Result<Link> {
        // The same index under the same name: still where it was. Anything else may be a namesake.
        if let Some(link) = find(&mut self.links, name)?
            && (self.index == 0 || self.index == link.index)
        {
            return Ok(link);
        }
        self.links = client_at(sys::namespace(self.as_fd())?)?;
        find(&mut self.links, name)?.ok_or_else(|| io::Error::from(Errno::NODEV))
    }
}

impl Device for Tun {
    fn name(&self) -> &str {
        &self.name
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn index(&self) -> u32 {
        self.index
    }

    fn refresh(&mut self) -> io::Result<bool> {
        let (name, _) = sys::interface(self.as_fd())?;
        let link = self.find(&name)?;
        let changed = name != self.name || link.index != self.index || link.mtu != self.mtu;
        self.name = name;
        self.index = link.index;
        self.mtu = link.mtu;
        Ok(changed)
    }

    fn limit_frames(&mut self, bytes: u32) -> io::Result<()> {
        // Kernels that cannot, or not without more rights, make longer ones: they are cut all the same.
        let _ = change(&mut self.links, self.index, LinkAttribute::GsoMaxSize(bytes.min(MAX_GSO)));
        Ok(())
    }

    fn recv(&mut self, buf: &mut [u8]) -> io::Result<(VirtioHeader, usize)> {
        loop {
            let mut header = [0; VirtioHeader::LEN];
            let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(buf)];
            let len = match rustix::io::readv(self.as_fd(), &mut parts) {
                Ok(len) => len,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            // The kernel was not asked for anything we cannot read, but a descriptor may be shared.
            let (Some(len), Ok(header)) = (len.checked_sub(VirtioHeader::LEN), VirtioHeader::decode(&header))
            else {
                self.refused += 1;
                continue;
            };
            return Ok((header, len));
        }
    }

    fn send(&mut self, header: &VirtioHeader, parts: &[IoSlice<'_>]) -> io::Result<()> {
        if parts.len() > MAX_PARTS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let header = header.encode();
        // One packet, the common case under light load, needs no long list laid out.
        let mut short = [IoSlice::new(&header), IoSlice::new(&[])];
        let mut long;
        let gathered = if let [packet] = parts {
            short[1] = *packet;
            &short[..]
        } else {
            long = [IoSlice::new(&[]); MAX_PARTS + 1];
            long[0] = short[0];
            long[1..=parts.len()].copy_from_slice(parts);
            &long[..=parts.len()]
        };
        loop {
            match rustix::io::writev(self.as_fd(), gathered) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                // Down (EIO), no room (EAGAIN, ENOBUFS, ENOMEM), or a frame the kernel finds fault with.
                Err(Errno::IO | Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::INVAL) => {
                    self.refused += 1;
                    return Ok(());
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn another_queue(&self) -> io::Result<Option<Box<dyn Device>>> {
        let Handle::Created(device) = &self.handle else { return Ok(None) };
        if !self.steered {
            return Ok(None);
        }
        let device = device.try_clone()?;
        device.set_nonblocking(true)?;
        // The offloads are the interface's, and were set anew with the queue.
        let udp = choose_offloads(&device).map_err(io::Error::other)?;
        let links = sys::namespace(&device).and_then(client_at).or_else(|_| Client::open(NETLINK_ROUTE))?;
        let queue = Tun::adopt(Handle::Created(device), links, udp).map_err(io::Error::other)?;
        Ok(Some(Box::new(Tun { steered: true, ..queue })))
    }

    fn descriptor(&self) -> Option<Descriptor> {
        Some(self.as_fd().as_raw_fd())
    }

    fn accepts_udp_segmentation(&self) -> bool {
        self.udp
    }

    fn refused(&self) -> u64 {
        self.refused
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.handle {
            Handle::Created(device) => device.as_fd(),
            Handle::Given(fd) => fd.as_fd(),
        }
    }
}

impl std::fmt::Debug for Tun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tun")
            .field("name", &self.name)
            .field("index", &self.index)
            .field("mtu", &self.mtu)
            .field("udp", &self.udp)
            .finish_non_exhaustive()
    }
}

/// True if the kernel also cuts and takes UDP super-packets.
fn choose_offloads(tun: impl AsFd) -> Result<bool, OpenError> {
    if sys::set_offloads(&tun, Offloads::TCP_AND_UDP).is_ok() {
        return Ok(true);
    }
    sys::set_offloads(&tun, Offloads::TCP).map_err(io_error("set the offloads of"))?;
    Ok(false)
}

fn creation_error(name: &str, source: io::Error) -> OpenError {
    let name = name.to_owned();
    match Errno::from_io_error(&source) {
        Some(Errno::PERM | Errno::ACCESS) => OpenError::NotPermitted,
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => OpenError::NoTun,
        Some(Errno::BUSY) => OpenError::InUse { name },
        // A TUN interface made with other flags than ours, or a TAP: its kind is "tun" as well.
        Some(Errno::INVAL) => {
            OpenError::NameTaken { name, kind: "a TAP, or a TUN with other flags".to_owned() }
        }
        _ => OpenError::Io { action: "make", source },
    }
}

fn io_error(action: &'static str) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::Io { action, source }
}

/// What `ip -d link` says about an interface.
struct Link {
    index: u32,
    mtu: u16,
    kind: String,
}

/// Asks for an interface by name; `None` if there is none.
fn find(links: &mut Client, name: &str) -> io::Result<Option<Link>> {
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let answers = match links.request(RouteNetlinkMessage::GetLink(request), 0) {
        Ok(answers) => answers,
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NODEV) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(RouteNetlinkMessage::NewLink(link)) = answers.into_iter().next() else {
        return Ok(None);
    };
    let mut found = Link { index: link.header.index, mtu: 0, kind: "no virtual interface".to_owned() };
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => found.mtu = u16::try_from(mtu).unwrap_or(u16::MAX),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        found.kind = if kind == InfoKind::Tun { "tun".to_owned() } else { kind.to_string() };
                    }
                }
            }
            _ => {}
        }
    }
    Ok(Some(found))
}

fn change(links: &mut Client, index: u32, attribute: LinkAttribute) -> io::Result<()> {
    let mut request = LinkMessage::default();
    request.header.index = index;
    request.attributes.push(attribute);
    links.change(RouteNetlinkMessage::SetLink(request), NLM_F_REQUEST | NLM_F_ACK)
}

/// Keeps the kernel from giving the interface a link-local address and soliciting routers through the tunnel;
/// the kernel's own WireGuard interfaces do the same. Hosts without IPv6 refuse, which is as good.
fn quiet(links: &mut Client, index: u32) {
    let mut request = LinkMessage::default();
    request.header.index = index;
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    request.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]));
    let _ = links.change(RouteNetlinkMessage::SetLink(request), NLM_F_REQUEST | NLM_F_ACK);
}

/// A client in another network namespace. A socket belongs to the namespace of the thread that opens it, so a
/// thread goes there for a moment; this one, and whoever else runs on it, stays where it is.
fn client_at(namespace: OwnedFd) -> io::Result<Client> {
    let open = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Client::open(NETLINK_ROUTE)
    };
    std::thread::spawn(open)
        .join()
        .map_err(|_| io::Error::other("the visit to another namespace panicked"))?
}
