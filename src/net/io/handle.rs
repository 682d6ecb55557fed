//! Handles by which other threads use a driver.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender},
    },
    time::Duration,
};

use mio::Waker;

use super::{
    BufferSizes, KernelDrops, SendCounters,
    arriving::ArrivingFrame,
    demand::{Demand, SharedDemand, TakenFrame, TakenFrames},
};
use crate::{
    latest::Latest,
    net::{
        congestion::bitrates::PictureBitrates,
        frame::{OutgoingFrame, PartialFrame},
        netem::NetemCounters,
        session::{AskId, CallCounters, CallId, Delivered, Event, StrayCounters, Verdict},
        wire::{
            control::{CloseReason, StreamParams},
            text::Line,
        },
    },
    threads::spawn,
};

/// A handle by which other threads use a driver.
#[derive(Debug)]
pub struct Handle {
    pub(super) waker: Arc<Waker>,
    pub(super) commands: SyncSender<Command>,
    pub(super) events: Receiver<Event>,
    pub(super) shared: Shared,
    pub(super) local_addr: SocketAddr,
}

/// The part of a [`Handle`] that takes frames, for the encoder's thread.
#[derive(Clone, Debug)]
pub struct FrameInlet {
    waker: Arc<Waker>,
    outgoing: Latest<OutgoingFrame>,
    stream: Latest<StreamParams>,
    picture_bitrates: Arc<Mutex<PictureBitrates>>,
    sends_off_host: Arc<AtomicBool>,
    demand: SharedDemand,
}

/// The handle by which a thread that takes received frames reports each one that it takes.
///
/// A thread that decodes may write to no file descriptor but standard error, so it cannot wake the
/// driver. Another thread does.
#[derive(Debug)]
pub struct TakenNotices {
    taken: TakenFrames,
    noted: Latest<TakenFrame>,
}

/// Statistics of the network thread.
#[derive(Clone, Debug, Default)]
pub struct NetStats {
    /// The counters of each call.
    pub calls: Vec<(CallId, CallCounters)>,
    /// The counters of all calls together, including those that have ended.
    pub totals: CallCounters,
    /// Datagrams that belonged to no call.
    pub strays: StrayCounters,
    /// Counters of datagrams sent.
    pub send: SendCounters,
    /// The kernel's buffer sizes.
    pub buffers: Option<BufferSizes>,
    /// Datagrams dropped by the kernel, read once a second; `None` where it does not report them.
    pub kernel_drops: Option<KernelDrops>,
    /// The counters of the emulated network: the outgoing one if there is one, else the incoming
    /// one.
    pub netem: Option<NetemCounters>,
    /// Events dropped because they were not fetched in time.
    pub events_dropped: u64,
}

/// State shared by a driver and its handles.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) outgoing: Latest<OutgoingFrame>,
    /// Changed parameters of our stream.
    pub(super) stream: Latest<StreamParams>,
    picture_bitrates: Arc<Mutex<PictureBitrates>>,
    /// Whether any receiver is on another machine, or behind an emulated network.
    sends_off_host: Arc<AtomicBool>,
    pub(super) demand: SharedDemand,
    pub(super) received: Latest<Delivered>,
    pub(super) taken: TakenFrames,
    pub(super) arriving: ArrivingFrame,
    pub(super) partial: Latest<(CallId, PartialFrame)>,
    wants_partial: Arc<AtomicBool>,
    /// Whether there is an event that must not wait for the next frame.
    urgent: Arc<AtomicBool>,
    stats: Arc<Mutex<NetStats>>,
}

/// A command to a driver.
#[derive(Debug)]
pub(super) enum Command {
    Text(Line),
    Answer(AskId, Verdict),
    Close(CloseReason),
}

impl Shared {
    /// The initial state; `buffers`: the kernel's buffer sizes.
    pub(super) fn new(buffers: Option<BufferSizes>) -> Self {
        let stats = NetStats { buffers, ..NetStats::default() };
        Self {
            outgoing: Latest::new(),
            stream: Latest::new(),
            picture_bitrates: Arc::default(),
            sends_off_host: Arc::new(AtomicBool::new(false)),
            demand: SharedDemand::new(),
            received: Latest::new(),
            taken: TakenFrames::default(),
            arriving: ArrivingFrame::default(),
            partial: Latest::new(),
            wants_partial: Arc::new(AtomicBool::new(false)),
            urgent: Arc::new(AtomicBool::new(false)),
            stats: Arc::new(Mutex::new(stats)),
        }
    }

    /// Sets the bitrates available for pictures.
    pub(super) fn set_picture_bitrates(&self, bitrates: PictureBitrates) {
        *locked(&self.picture_bitrates) = bitrates;
    }

    /// Sets whether video goes to another machine, or through an emulated network.
    pub(super) fn set_sends_off_host(&self, away: bool) {
        self.sends_off_host.store(away, Ordering::Relaxed);
    }

    /// Whether partial frames are wanted.
    pub(super) fn wants_partial(&self) -> bool {
        self.wants_partial.load(Ordering::Relaxed)
    }

    /// Wakes the thread that waits for frames, because of an event.
    pub(super) fn wake_for_event(&self) {
        self.urgent.store(true, Ordering::Relaxed);
        self.received.nudge();
    }

    /// Statistics of the network thread.
    pub(super) fn stats(&self) -> MutexGuard<'_, NetStats> {
        locked(&self.stats)
    }
}

impl Handle {
    /// The address the driver is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where encoded frames are pushed.
    pub fn inlet(&self) -> FrameInlet {
        FrameInlet {
            waker: Arc::clone(&self.waker),
            outgoing: self.shared.outgoing.clone(),
            stream: self.shared.stream.clone(),
            picture_bitrates: Arc::clone(&self.shared.picture_bitrates),
            sends_off_host: Arc::clone(&self.shared.sends_off_host),
            demand: self.shared.demand.clone(),
        }
    }

    /// For the thread that takes received frames. Starts a thread that ends when the result is
    /// dropped.
    pub fn taken_notices(&self) -> io::Result<TakenNotices> {
        let noted = Latest::new();
        let notices = TakenNotices { taken: self.shared.taken.clone(), noted: noted.clone() };
        let (taken, waker) = (self.shared.taken.clone(), Arc::clone(&self.waker));
        spawn("taken", move || taken.relay(&noted, &waker))?;
        Ok(notices)
    }

    /// Where received frames are taken; the newest wins. Closed when the driver has ended.
    pub fn received(&self) -> Latest<Delivered> {
        self.shared.received.clone()
    }

    /// The prefix of the frame that is still arriving. From now on, a thread waiting for received
    /// frames is woken when the prefix has grown.
    pub fn arriving(&self) -> ArrivingFrame {
        self.shared.arriving.want();
        self.shared.arriving.clone()
    }

    /// Where partial frames are taken; the newest wins. From now on they are produced, and a thread
    /// waiting for received frames is woken for each.
    pub fn partial(&self) -> Latest<(CallId, PartialFrame)> {
        self.shared.wants_partial.store(true, Ordering::Relaxed);
        self.shared.partial.clone()
    }

    /// Set when a thread waiting for received frames is woken for an urgent event. A thread that
    /// waits for frames on behalf of others clears it and wakes them.
    pub fn urgent(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shared.urgent)
    }

    /// The next event; waits up to `timeout` for it.
    pub fn wait_event(&self, timeout: Duration) -> Option<Event> {
        self.events.recv_timeout(timeout).ok()
    }

    /// Received frames replaced by newer ones before they were taken.
    pub fn superseded(&self) -> u64 {
        self.shared.received.superseded()
    }

    /// The next event, if there is one.
    pub fn try_event(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Sends `line` to every connected peer. Returns false if too many commands are pending,
    /// or the driver has ended.
    pub fn say(&self, line: Line) -> bool {
        self.try_command(Command::Text(line))
    }

    /// Answers [`Event::Asked`].
    pub fn answer(&self, ask: AskId, verdict: Verdict) {
        self.send_command(Command::Answer(ask, verdict));
    }

    /// Says goodbye and ends the driver.
    pub fn close(&self, reason: CloseReason) {
        self.send_command(Command::Close(reason));
    }

    /// Statistics of the network thread, up to 250 ms old.
    pub fn stats(&self) -> NetStats {
        self.shared.stats().clone()
    }

    /// Sends a command that must not be dropped. Waits while too many are pending.
    fn send_command(&self, command: Command) {
        // All of this fails only if the driver has ended.
        let _ = self.waker.wake();
        let _ = self.commands.send(command);
        let _ = self.waker.wake();
    }

    fn try_command(&self, command: Command) -> bool {
        let taken = self.commands.try_send(command).is_ok();
        // Waking fails only if the driver has ended.
        let _ = self.waker.wake();
        taken
    }
}

impl TakenNotices {
    /// Notes that `delivered` was taken now. Its sender is told, if it sends faster than frames are
    /// taken.
    pub fn note(&self, delivered: &Delivered) {
        if self.taken.are_wanted() {
            self.noted.put(TakenFrame::of(delivered));
        }
    }
}

impl Drop for TakenNotices {
    fn drop(&mut self) {
        self.noted.close();
    }
}

impl FrameInlet {
    /// Waits for at least this demand for frames. Returns false after `timeout`.
    pub fn wait_demand(&self, least: Demand, timeout: Duration) -> bool {
        self.demand.wait(least, timeout)
    }

    /// The bitrates available for pictures now.
    pub fn picture_bitrates(&self) -> PictureBitrates {
        *locked(&self.picture_bitrates)
    }

    /// Whether frames go to another machine, or through an emulated network. Otherwise the receiver
    /// shares our cores, and no transmission time can be used for encoding.
    pub fn sends_off_host(&self) -> bool {
        self.sends_off_host.load(Ordering::Relaxed)
    }

    /// Sets the parameters of our stream, which are announced to the peers.
    pub fn set_stream(&self, stream: StreamParams) {
        self.stream.put(stream);
        self.wake();
    }

    /// Signals that a pushed frame has grown or is complete.
    pub fn wake(&self) {
        // Waking fails only if the driver has ended.
        let _ = self.waker.wake();
    }

    /// Pushes a frame. Returns true if it replaced one that was not taken yet.
    pub fn push(&self, frame: OutgoingFrame) -> bool {
        // Until the driver has taken it and looked again.
        self.demand.set(Demand::None);
        let replaced = self.outgoing.put(frame).is_some();
        let _ = self.waker.wake();
        replaced
    }
}

/// Poisoning is ignored, since none of our code panics in the middle of a change.
fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
