//! The loop of the packet thread, or of the first of several.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Waker};
use span_core::path::{Path, Source, UdpPath};
use span_core::time::Instant;
use span_core::tunnel::Tunnel;
use span_nat::monitor::Monitor;

use super::alarm::Alarm;
use super::carrier::{ALARM, Carrier, MONITOR};
use super::command::Command;
use super::crew::Hand;
use super::lend::Lend;
use super::{Core, Notice, Notify};

/// Carries packets, and does all the tunnel needs besides.
pub(super) struct Leader<T> {
    carrier: Carrier<T>,
    commands: Receiver<Command>,
    monitor: Option<Monitor>,
    alarm: Alarm,
    /// Where to tell what happened; told without waiting.
    notify: Notify,
}

impl<T: Lend> Leader<T> {
    pub(super) fn new(
        carrier: Carrier<T>,
        commands: Receiver<Command>,
        monitor: Option<Monitor>,
        notify: Notify,
    ) -> io::Result<Self> {
        if let Some(monitor) = &monitor {
            let registry = carrier.poll.registry();
            registry.register(&mut SourceFd(&monitor.descriptor()), MONITOR, Interest::READABLE)?;
        }
        let alarm = Alarm::new()?;
        let registry = carrier.poll.registry();
        registry.register(&mut SourceFd(&alarm.descriptor()), ALARM, Interest::READABLE)?;
        Ok(Leader { carrier, commands, monitor, alarm, notify })
    }

    /// What runs the leader and all threads beside it.
    pub(super) fn beside(self, hands: Vec<Hand>, waker: Arc<Waker>) -> impl FnOnce() -> io::Result<()> {
        let crew = self.carrier.ends.crew.threads();
        move || crew.run(hands, &waker, move || self.run())
    }

    /// Carries packets until told to stop, or until another packet thread has ended.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(16);
        while !self.carrier.ends.stopping && !self.carrier.ends.crew.has_ended() {
            let timeout = self.timeout()?;
            self.carrier.wait(&mut events, timeout)?;
            let mut network_changed = false;
            for event in &events {
                match event.token() {
                    MONITOR => network_changed = true,
                    ALARM => self.alarm.went_off(),
                    _ => self.carrier.note(event),
                }
            }
            if network_changed {
                self.follow_network()?;
            }
            self.obey()?;
            let now = self.carrier.ends.clock.now();
            self.work(now)?;
            self.carrier.await_room()?;
        }
        Ok(())
    }

    /// How long to wait for the next event: not at all while there is work. Deadlines are the alarm's.
    fn timeout(&mut self) -> io::Result<Option<Duration>> {
        if self.carrier.is_busy() {
            return Ok(Some(Duration::ZERO));
        }
        let tunnel = self.carrier.tunnel.rest();
        // With nothing to send into, a device that is due waits like everything else.
        let device = self.carrier.ends.tun.deadline().filter(|_| !self.carrier.outbound.blocked());
        if let Some(deadline) = tunnel.into_iter().chain(device).min() {
            let now = self.carrier.ends.clock.now();
            if device.is_some_and(|due| due <= now) {
                return Ok(Some(Duration::ZERO));
            }
            self.alarm.set(now, deadline)?;
        }
        Ok(None)
    }

    /// One turn for each direction and for the tunnel's own business.
    fn work(&mut self, now: Instant) -> io::Result<()> {
        let Leader { carrier, notify, .. } = self;
        carrier.turn(now)?;
        carrier.tunnel.with(now, Tunnel::handle_timeout);
        carrier.drain(now);
        carrier.count();
        carrier.tunnel.with(now, |tunnel, _| {
            while let Some(event) = tunnel.poll_event() {
                notify(tunnel, Notice::Tunnel(event));
            }
        });
        Ok(())
    }

    /// Carries out what other threads asked for.
    fn obey(&mut self) -> io::Result<()> {
        while let Ok(command) = self.commands.try_recv() {
            self.with_core(command);
        }
        self.carrier.follow_rebinding()
    }

    /// Does something with the tunnel and its ends.
    fn with_core<R>(&mut self, work: impl FnOnce(&mut Core<'_>) -> R) -> R {
        let Carrier { tunnel, ends, .. } = &mut self.carrier;
        let done = tunnel.with(ends.clock.now(), |tunnel, _| work(&mut Core { tunnel, ends }));
        ends.crew.dispatch();
        done
    }

    /// Interfaces, addresses or routes changed: sources may be gone, and better ways may have come.
    fn follow_network(&mut self) -> io::Result<()> {
        let Some(monitor) = &mut self.monitor else { return Ok(()) };
        let mut changed = false;
        loop {
            let changes = monitor.poll()?;
            changed |= changes.any();
            if !changes.more {
                break;
            }
        }
        if !changed {
            return Ok(());
        }
        let (mark, paths) = self.with_core(|core| {
            core.refresh()?;
            Ok::<_, io::Error>((core.transport.mark(), used_paths(core)))
        })?;
        let lost = self.monitor.as_mut().map(|monitor| lost_sources(&paths, monitor, mark));
        let lost = lost.unwrap_or_default();
        let Leader { carrier, notify, .. } = self;
        let now = carrier.ends.clock.now();
        carrier.tunnel.with(now, |tunnel, now| {
            tunnel.network_changed(now, |source| !lost.contains(source));
            notify(tunnel, Notice::Network);
        });
        Ok(())
    }
}

/// Paths that peers are sent to from an address they were heard at.
fn used_paths(core: &Core<'_>) -> Vec<(Source, UdpPath)> {
    /// Each costs a question to the kernel while packets wait.
    const QUESTIONS_A_SOURCE: usize = 32;
    let (device, now) = (core.tunnel.device(), core.clock.now());
    let mut asked: BTreeMap<Source, usize> = BTreeMap::new();
    let paths = device.peers().filter_map(|peer| {
        let Some(Path::Udp(udp)) = device.peer(now, peer)?.path.copied() else { return None };
        let source = udp.source?;
        let asked = asked.entry(source).or_default();
        *asked += 1;
        (*asked <= QUESTIONS_A_SOURCE).then_some((source, udp))
    });
    paths.collect()
}

/// The local addresses of these paths that are gone, or that the host would no longer choose.
fn lost_sources(paths: &[(Source, UdpPath)], monitor: &mut Monitor, mark: u32) -> BTreeSet<Source> {
    let mut lost = BTreeSet::new();
    for (source, udp) in paths {
        // Where the kernel does not answer, the next datagram that fails to leave tells.
        if !lost.contains(source) && !monitor.source_holds(udp, mark).unwrap_or(true) {
            lost.insert(*source);
        }
    }
    lost
}
