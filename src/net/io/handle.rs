//! Everybody else's hold on a driver: what they hand it, and what it tells.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender},
    },
    time::Duration,
};

use mio::Waker;

use super::{BufferSizes, KernelDrops, SendCounters, arriving::Arriving};
use crate::{
    latest::Latest,
    net::{
        frame::{OutgoingFrame, TornFrame},
        netem::NetemCounters,
        quality::PictureBitrates,
        session::{AskId, CallCounters, CallId, Delivered, Event, StrayCounters, Verdict},
        wire::{
            control::{CloseReason, StreamParams},
            text::Line,
        },
    },
};

/// Everybody else's hold on a driver.
#[derive(Debug)]
pub struct Handle {
    pub(super) waker: Arc<Waker>,
    pub(super) commands: SyncSender<Command>,
    pub(super) events: Receiver<Event>,
    pub(super) shared: Shared,
    pub(super) local_addr: SocketAddr,
}

/// The part of a [`Handle`] that feeds frames, for the encoder's thread.
#[derive(Clone, Debug)]
pub struct FrameInlet {
    waker: Arc<Waker>,
    outgoing: Latest<OutgoingFrame>,
    picture_bitrates: Arc<Mutex<PictureBitrates>>,
    sends_away: Arc<AtomicBool>,
}

/// What the network side has seen and done.
#[derive(Clone, Debug, Default)]
pub struct NetStats {
    /// Each call's.
    pub calls: Vec<(CallId, CallCounters)>,
    /// All calls' together, those that have ended included.
    pub totals: CallCounters,
    /// Datagrams that belonged to no call.
    pub strays: StrayCounters,
    /// What became of what was sent.
    pub send: SendCounters,
    /// The kernel's buffers.
    pub buffers: Option<BufferSizes>,
    /// Datagrams that the kernel dropped, a second old at most; `None` where it does not say.
    pub kernel_drops: Option<KernelDrops>,
    /// What the bad network did, if there is one: to what left, and to what came.
    pub netem: Option<NetemCounters>,
    /// Events that nobody fetched in time.
    pub events_dropped: u64,
}

/// What a driver and its handles share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) outgoing: Latest<OutgoingFrame>,
    picture_bitrates: Arc<Mutex<PictureBitrates>>,
    /// Whether any receiver is on another machine.
    sends_away: Arc<AtomicBool>,
    pub(super) received: Latest<Delivered>,
    pub(super) arriving: Arriving,
    pub(super) torn: Latest<(CallId, TornFrame)>,
    wants_torn: Arc<AtomicBool>,
    /// Whether there is an event that whoever waits for frames should not leave waiting.
    urgent: Arc<AtomicBool>,
    stats: Arc<Mutex<NetStats>>,
}

/// What a driver is told.
#[derive(Debug)]
pub(super) enum Command {
    Text(Line),
    Stream(StreamParams),
    Answer(AskId, Verdict),
    Close(CloseReason),
}

impl Shared {
    /// Nothing has happened yet; the kernel gave us `buffers`.
    pub(super) fn new(buffers: Option<BufferSizes>) -> Self {
        let stats = NetStats { buffers, ..NetStats::default() };
        Self {
            outgoing: Latest::new(),
            picture_bitrates: Arc::default(),
            sends_away: Arc::new(AtomicBool::new(false)),
            received: Latest::new(),
            arriving: Arriving::default(),
            torn: Latest::new(),
            wants_torn: Arc::new(AtomicBool::new(false)),
            urgent: Arc::new(AtomicBool::new(false)),
            stats: Arc::new(Mutex::new(stats)),
        }
    }

    /// What pictures may take from now on.
    pub(super) fn set_picture_bitrates(&self, bitrates: PictureBitrates) {
        *locked(&self.picture_bitrates) = bitrates;
    }

    /// Whether what is sent leaves this machine.
    pub(super) fn set_sends_away(&self, away: bool) {
        self.sends_away.store(away, Ordering::Relaxed);
    }

    /// Whether anybody wants torn frames.
    pub(super) fn wants_torn(&self) -> bool {
        self.wants_torn.load(Ordering::Relaxed)
    }

    /// Wakes whoever waits for frames, for the sake of an event.
    pub(super) fn wake_for_event(&self) {
        self.urgent.store(true, Ordering::Relaxed);
        self.received.nudge();
    }

    /// What the network side has seen and done.
    pub(super) fn stats(&self) -> MutexGuard<'_, NetStats> {
        locked(&self.stats)
    }
}

impl Handle {
    /// Where the driver is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where encoded frames go in.
    pub fn inlet(&self) -> FrameInlet {
        FrameInlet {
            waker: Arc::clone(&self.waker),
            outgoing: self.shared.outgoing.clone(),
            picture_bitrates: Arc::clone(&self.shared.picture_bitrates),
            sends_away: Arc::clone(&self.shared.sends_away),
        }
    }

    /// Where received frames come out; the newest wins. Closed when the driver has ended.
    pub fn received(&self) -> Latest<Delivered> {
        self.shared.received.clone()
    }

    /// The beginning of the frame that is still arriving. From now on whoever waits for received
    /// frames is nudged when it has grown.
    pub fn arriving(&self) -> Arriving {
        self.shared.arriving.want();
        self.shared.arriving.clone()
    }

    /// Where torn frames come out; the newest wins. From now on whoever waits for received frames
    /// is nudged when there is one; nothing is done for them before.
    pub fn torn(&self) -> Latest<(CallId, TornFrame)> {
        self.shared.wants_torn.store(true, Ordering::Relaxed);
        self.shared.torn.clone()
    }

    /// Raised with a nudge of whoever waits for received frames, when there is an event that should
    /// not wait. Who waits for frames in another's place lowers it, and tells the other.
    pub fn urgent(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shared.urgent)
    }

    /// The next event; waits up to `timeout` for one.
    pub fn wait_event(&self, timeout: Duration) -> Option<Event> {
        self.events.recv_timeout(timeout).ok()
    }

    /// Whole frames that were replaced by newer ones before anybody took them.
    pub fn superseded(&self) -> u64 {
        self.shared.received.superseded()
    }

    /// The next event, if there is one.
    pub fn try_event(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Says `line` to whoever is connected. False: too much is waiting to be said.
    pub fn say(&self, line: Line) -> bool {
        self.command(Command::Text(line))
    }

    /// What we send is now `stream`.
    pub fn set_stream(&self, stream: StreamParams) {
        self.command(Command::Stream(stream));
    }

    /// Answers [`Event::Asked`].
    pub fn answer(&self, ask: AskId, verdict: Verdict) {
        self.command(Command::Answer(ask, verdict));
    }

    /// Says goodbye, and ends the driver.
    pub fn close(&self, reason: CloseReason) {
        // Unlike the others it must not be dropped; a driver that is gone needs no telling.
        let _ = self.waker.wake();
        let _ = self.commands.send(Command::Close(reason));
        let _ = self.waker.wake();
    }

    /// What the network side has seen and done, a tenth of a second old at most.
    pub fn stats(&self) -> NetStats {
        self.shared.stats().clone()
    }

    fn command(&self, command: Command) -> bool {
        let taken = self.commands.try_send(command).is_ok();
        // The only error is a poll that is gone, and then nobody needs to be woken.
        let _ = self.waker.wake();
        taken
    }
}

impl FrameInlet {
    /// What pictures may take, as of now.
    pub fn picture_bitrates(&self) -> PictureBitrates {
        *locked(&self.picture_bitrates)
    }

    /// Whether frames leave this machine, as of now. While they do not, the receiver works on the
    /// same cores, and there is no way to them that could be used meanwhile.
    pub fn sends_away(&self) -> bool {
        self.sends_away.load(Ordering::Relaxed)
    }

    /// Says that a frame that was handed over has grown, or has ended.
    pub fn wake(&self) {
        // The only error is a poll that is gone, and then nobody needs to be woken.
        let _ = self.waker.wake();
    }

    /// Hands a frame over; true, if one that was not sent yet has been replaced.
    pub fn push(&self, frame: OutgoingFrame) -> bool {
        let replaced = self.outgoing.put(frame).is_some();
        let _ = self.waker.wake();
        replaced
    }
}

/// No code of ours panics amid a change.
fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
