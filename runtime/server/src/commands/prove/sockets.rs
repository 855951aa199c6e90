//! The generator's connections, and the one place where its thread waits: for them, or until a time, to the microsecond.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::time::{ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, clock_gettime};

use super::connection::Connection;

/// How long before its time something is waited for without sleeping, where the processor is this thread's alone.
const SPIN: u64 = 50_000;

/// How long a connection that could not be opened is left alone.
const AGAIN: u64 = 10_000_000;

/// What events of the timer carry.
const TIMER: u64 = u64::MAX;

/// Nanoseconds of the monotonic clock.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// A connection at which something happened.
pub struct Ready {
    pub slot: usize,
    serial: u32,
    /// There is something to read, or it has ended.
    pub reads: bool,
    /// There is room to write.
    pub writes: bool,
}

pub struct Sockets {
    address: SocketAddr,
    /// Most connections at a time.
    most: usize,
    /// How long an idle connection is used again.
    fresh: u64,
    spin: u64,
    epoll: OwnedFd,
    timer: OwnedFd,
    /// What the timer is set to; 0: not set.
    armed: u64,
    slots: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Slots of idle connections; the last one was used last.
    idle: Vec<usize>,
    connecting: usize,
    next_serial: u32,
    /// When connections are opened in place of those that failed.
    again: VecDeque<u64>,
    /// A connection failed: the server may have ended.
    doubts: bool,
}

impl Sockets {
    /// `alone`: this thread has a processor of its own, and may wait without sleeping.
    pub fn new(address: SocketAddr, most: usize, fresh: u64, alone: bool) -> rustix::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
        Ok(Sockets {
            address,
            most,
            fresh,
            spin: if alone { SPIN } else { 0 },
            epoll,
            timer,
            armed: 0,
            slots: Vec::new(),
            free: Vec::new(),
            idle: Vec::new(),
            connecting: 0,
            next_serial: 0,
            again: VecDeque::new(),
            doubts: false,
        })
    }

    pub fn get(&mut self, slot: usize) -> Option<&mut Connection> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// How many are free to send on.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// How many will be, without any being asked for.
    pub fn coming(&self) -> usize {
        self.connecting + self.again.len()
    }

    /// No more can be opened, and of those that are being opened `wanted` are spoken for.
    pub fn is_short(&self, wanted: usize) -> bool {
        self.count() >= self.most && self.connecting <= wanted
    }

    fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Opens connections until `wanted` are idle or coming, or there are as many as there may be.
    pub fn have(&mut self, wanted: usize) {
        while self.idle.len() + self.coming() < wanted && self.count() < self.most {
            self.open();
        }
    }

    /// Opens one, or tries later.
    pub fn open(&mut self) {
        self.next_serial = self.next_serial.wrapping_add(1);
        let opened = Connection::open(self.address, self.next_serial).and_then(|connection| {
            let slot = self.free.last().copied().unwrap_or(self.slots.len());
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT;
            epoll::add(&self.epoll, &connection.socket, event_data(slot, connection.serial), flags)?;
            Ok((slot, connection))
        });
        match opened {
            Ok((slot, connection)) => {
                if self.free.pop().is_none() {
                    self.slots.push(None);
                }
                self.slots[slot] = Some(connection);
                self.connecting += 1;
            }
            Err(error) => self.not_opened(error),
        }
    }

    fn not_opened(&mut self, error: Errno) {
        if matches!(error, Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL) {
            // There will never be more.
            self.most = self.count().max(1);
        }
        self.failed();
    }

    /// A connection failed, and another is wanted in its place.
    pub fn failed(&mut self) {
        self.doubts = true;
        self.again.push_back(now() + AGAIN);
    }

    /// When one is opened again.
    pub fn opens_at(&self) -> Option<u64> {
        self.again.front().copied()
    }

    /// Opens those whose time has come.
    pub fn reopen(&mut self, time: u64) {
        while self.again.front().is_some_and(|at| *at <= time) {
            self.again.pop_front();
            if self.count() < self.most {
                self.open();
            }
        }
    }

    pub fn doubt(&mut self) {
        self.doubts = true;
    }

    /// Whether one failed since this was last asked.
    pub fn doubts(&mut self) -> bool {
        std::mem::take(&mut self.doubts)
    }

    pub fn close(&mut self, slot: usize) {
        if let Some(connection) = self.slots[slot].take() {
            self.connecting -= usize::from(connection.is_connecting());
            self.free.push(slot);
        }
    }

    /// Closes an idle one that the server has closed.
    pub fn close_idle(&mut self, slot: usize) {
        self.idle.retain(|idle| *idle != slot);
        self.close(slot);
    }

    /// Whether one that was being opened can be used now.
    pub fn connected(&mut self, slot: usize) -> bool {
        let Some(connection) = self.get(slot) else { return false };
        match connection.connected() {
            Ok(()) => {
                connection.used = now();
                self.connecting -= 1;
                self.watch(slot, false);
                true
            }
            Err(error) => {
                self.close(slot);
                self.not_opened(error);
                false
            }
        }
    }

    pub fn put_idle(&mut self, slot: usize) {
        self.idle.push(slot);
    }

    /// The idle one that was used last, if the server cannot be about to close it.
    pub fn take_idle(&mut self) -> Option<usize> {
        let slot = self.idle.pop()?;
        let stale = now().saturating_sub(self.fresh);
        if self.slots[slot].as_ref().is_some_and(|c| c.used >= stale) {
            return Some(slot);
        }
        // All others have been idle for longer.
        for slot in std::mem::take(&mut self.idle).into_iter().chain([slot]) {
            self.close(slot);
        }
        None
    }

    /// Has it watched for room to write, beside what there is to read, or no longer.
    pub fn watch(&mut self, slot: usize, writes: bool) {
        let Some(connection) = self.slots[slot].as_mut() else { return };
        if connection.watches_writes == writes {
            return;
        }
        connection.watches_writes = writes;
        let flags = if writes { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
        let data = event_data(slot, connection.serial);
        // Where it fails the request is given up in time.
        let _ = epoll::modify(&self.epoll, &connection.socket, data, flags);
    }

    /// Waits until `until` for connections at which something happens. It may be less, for nothing.
    pub fn wait(&mut self, until: u64) -> rustix::io::Result<Vec<Ready>> {
        const NONE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let sleeps = until.saturating_sub(self.spin) > now();
        if sleeps {
            self.arm(until - self.spin)?;
        }
        let mut events: Vec<epoll::Event> = Vec::with_capacity(128);
        let timeout = if sleeps { None } else { Some(&NONE) };
        match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let mut found = Vec::with_capacity(events.len());
        for event in &events {
            let (data, flags) = (event.data.u64(), event.flags);
            if data == TIMER {
                // Only so that it is no longer ready.
                let _ = rustix::io::read(&self.timer, &mut [0u8; 8]);
                self.armed = 0;
                continue;
            }
            let reads = epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
            found.push(Ready {
                slot: (data & 0xffff_ffff) as usize,
                serial: (data >> 32) as u32,
                reads: flags.intersects(reads),
                writes: flags.contains(epoll::EventFlags::OUT),
            });
        }
        Ok(found)
    }

    /// The connection that an event is of, unless it is gone.
    pub fn of(&mut self, ready: &Ready) -> Option<&mut Connection> {
        self.get(ready.slot).filter(|c| c.serial == ready.serial)
    }

    fn arm(&mut self, at: u64) -> rustix::io::Result<()> {
        if self.armed == at {
            return Ok(());
        }
        self.armed = at;
        let zero = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = rustix::time::Timespec {
            tv_sec: (at / 1_000_000_000).cast_signed(),
            tv_nsec: (at % 1_000_000_000).cast_signed() as _,
        };
        let time = Itimerspec { it_interval: zero, it_value: value };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &time)?;
        Ok(())
    }
}

fn event_data(slot: usize, serial: u32) -> epoll::EventData {
    epoll::EventData::new_u64(slot as u64 | u64::from(serial) << 32)
}
