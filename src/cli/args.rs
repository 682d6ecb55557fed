//! Every verb and option.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use super::values::{self, HostPort, MaxDatagramLen, Quality, Rate};
use crate::{
    net::{
        io::{Dscp, Offload},
        netem::NetemSpec,
        redundancy::FecMode,
    },
    video::{image::Size, jpeg::Strips, sink::OutputSpec, source::SourceSpec},
};

/// Face-to-face video without voice, and the lowest-latency camera link between two machines.
///
/// On one machine: `udpchat recv`. On the other: `udpchat send --to HOST`.
/// Or both ways: `udpchat chat` and `udpchat chat HOST`. To try it alone: `udpchat demo`.
#[derive(Debug, Parser)]
#[command(name = "udpchat", version, max_term_width = 100, infer_subcommands = false)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,

    /// Say more: -v what happens, -vv how, -vvv everything [default: warnings]
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Messages")]
    pub verbose: u8,

    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Messages")]
    pub quiet: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Stream a camera, a file, the test pattern or standard input to a receiver
    #[command(after_help = SEND_EXAMPLES)]
    Send(SendArgs),
    /// Receive a stream, and show, record or pipe it
    #[command(after_help = RECV_EXAMPLES)]
    Recv(RecvArgs),
    /// See each other: call HOST, or wait for a call when none is given
    #[command(after_help = CHAT_EXAMPLES)]
    Chat(ChatArgs),
    /// Sender and receiver on this machine, over real UDP; ends with a report
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// List the cameras with their formats, sizes and rates
    #[command(after_help = "Example:\n  udpchat devices")]
    Devices,
    /// Check what usually goes wrong on this machine, and print the remedies
    #[command(after_help = "Example:\n  udpchat doctor")]
    Doctor(DoctorArgs),
    /// Open a window and close it again
    #[command(name = super::WINDOW_TRIAL, hide = true)]
    WindowTrial,
    /// Print the completions for a shell
    #[command(
        after_help = "Example:\n  udpchat completions bash > ~/.local/share/bash-completion/completions/udpchat"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write one for each verb
    #[command(after_help = "Example:\n  udpchat man | man -l -")]
    Man {
        /// Write udpchat.1 and one page a verb into this folder
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// `udpchat send`.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// Whom to send to; may be repeated [default port: 7722]
    #[arg(long, value_name = "HOST[:PORT]", required = true, value_parser = values::host_port)]
    pub to: Vec<HostPort>,
    /// Where the picture comes from.
    #[command(flatten)]
    pub source: SourceArgs,
    /// How the network is used.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Send at once and unasked, without the TCP control channel: for one-way links
    #[arg(long, help_heading = "Network")]
    pub no_control: bool,
    /// Who we are, and whom we speak with.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// With --no-control: encrypt with the key in FILE, which is made if it is not there; the
    /// receiver needs the same [default: in the clear]
    #[arg(long, value_name = "FILE", requires = "no_control", help_heading = "Trust")]
    pub key_file: Option<PathBuf>,
    /// What is reported.
    #[command(flatten)]
    pub report: ReportArgs,
    /// Stop after this many seconds [default: never]
    #[arg(long, value_name = "N", value_parser = values::seconds)]
    pub seconds: Option<Duration>,
}

/// `udpchat recv`.
#[derive(Debug, Args)]
pub struct RecvArgs {
    /// Where to listen, UDP and TCP [default: all addresses, port 7722]
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = values::bind_addr)]
    pub bind: Option<SocketAddr>,
    /// Where the picture goes.
    #[command(flatten)]
    pub sink: SinkArgs,
    /// How the network is used.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Do not listen on TCP; only take what is sent unasked
    #[arg(long, help_heading = "Network")]
    pub no_control: bool,
    /// Who we are, and whom we speak with.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Which senders may come in [default: any; with --code, those who know it]
    #[arg(long, value_enum, value_name = "known|code|any", help_heading = "Trust")]
    pub accept: Option<Accept>,
    /// Take what is sent unasked only if it is encrypted with the key in FILE, which is made if it is
    /// not there
    #[arg(long, value_name = "FILE", help_heading = "Trust")]
    pub key_file: Option<PathBuf>,
    /// What is reported.
    #[command(flatten)]
    pub report: ReportArgs,
    /// Stop after this many seconds [default: never]
    #[arg(long, value_name = "N", value_parser = values::seconds)]
    pub seconds: Option<Duration>,
}

/// `udpchat chat`.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// Whom to call; none: wait for a call [default port: 7722]
    #[arg(value_name = "HOST[:PORT]", value_parser = values::host_port)]
    pub host: Option<HostPort>,
    /// Where to wait for a call [default: all addresses, port 7722]
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = values::bind_addr, conflicts_with = "host")]
    pub bind: Option<SocketAddr>,
    /// Where the picture comes from.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Where the picture goes.
    #[command(flatten)]
    pub sink: SinkArgs,
    /// How the network is used.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Who we are, and whom we speak with.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Which callers may see us [default: those we know, and whom you let in; with --code, those who
    /// know it]
    #[arg(
        long,
        value_enum,
        value_name = "known|code|any",
        conflicts_with = "host",
        help_heading = "Trust"
    )]
    pub accept: Option<Accept>,
    /// What is reported.
    #[command(flatten)]
    pub report: ReportArgs,
    /// Stop after this many seconds [default: never]
    #[arg(long, value_name = "N", value_parser = values::seconds)]
    pub seconds: Option<Duration>,
}

/// `udpchat demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How long
    #[arg(long, value_name = "N", value_parser = values::seconds, default_value = "10")]
    pub seconds: Duration,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the picture comes from.
    #[command(flatten)]
    pub source: DemoSourceArgs,
    /// Where the picture goes.
    #[command(flatten)]
    pub sink: SinkArgs,
    /// How the network is used.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// What is reported.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// `udpchat doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The port to check
    #[arg(long, default_value_t = crate::net::io::DEFAULT_PORT)]
    pub port: u16,
}

/// Where the picture comes from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Picture")]
pub struct SourceArgs {
    /// camera, camera:N, pattern, a video or image file, or - for YUV4MPEG2 or JPEGs on standard input
    #[arg(long, default_value = "camera", value_name = "SOURCE", value_parser = values::source())]
    pub source: SourceSpec,
    /// How the picture is made.
    #[command(flatten)]
    pub encoding: EncodingArgs,
}

/// The same, but the pattern unless told otherwise.
#[derive(Debug, Args)]
#[command(next_help_heading = "Picture")]
pub struct DemoSourceArgs {
    /// pattern, camera, camera:N, a video or image file, or - for YUV4MPEG2 or JPEGs on standard input
    #[arg(long, default_value = "pattern", value_name = "SOURCE", value_parser = values::source())]
    pub source: SourceSpec,
    /// How the picture is made.
    #[command(flatten)]
    pub encoding: EncodingArgs,
}

/// How the picture is made.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Picture")]
pub struct EncodingArgs {
    /// JPEG quality, 1 to 100; auto goes by what the path can bear, at most 80, and then by fewer
    /// and smaller pictures; 80 with --no-control
    #[arg(long, default_value = "auto", value_name = "1..100|auto", value_parser = values::quality)]
    pub quality: Quality,
    /// Picture size, exactly as given, but for JPEGs that are passed through [default: 1280x720 for camera and pattern, else the source's own]
    #[arg(long, value_name = "WxH")]
    pub size: Option<Size>,
    /// Frames a second; max is as many as can be encoded, of the pattern or a file [default: 30, and a video file's own]
    #[arg(long, value_name = "N|max", value_parser = values::rate)]
    pub fps: Option<Rate>,
    /// Grey pictures: a third smaller
    #[arg(long)]
    pub gray: bool,
    /// Strips of a picture that are encoded at once, 1 to 16; auto goes by cores and size
    #[arg(long, default_value = "auto", value_name = "auto|N", value_parser = values::strips)]
    pub strips: Strips,
    /// Whether strips are sent while later ones are encoded; on and off are for comparison
    #[arg(long, default_value = "auto", value_name = "auto|on|off", hide_short_help = true)]
    pub pipeline: Pipeline,
    /// Play a file once and end, instead of looping
    #[arg(long)]
    pub once: bool,
}

/// When the strips of a frame are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pipeline {
    /// Each as soon as it is encoded, unless the receiver is on this machine.
    Auto,
    /// Each as soon as it is encoded.
    On,
    /// All of them when the last is encoded.
    Off,
}

/// Where the picture goes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Display")]
pub struct SinkArgs {
    /// Whether to open a window [default: window, if there is a display]
    #[arg(long, value_enum, value_name = "window|none")]
    pub show: Option<Show>,
    /// Record to FILE.y4m, FILE.mjpeg or FILE.avi, or pipe YUV4MPEG2 to standard output with - [default: neither]
    #[arg(long, value_name = "FILE|-", value_parser = values::output())]
    pub output: Option<OutputSpec>,
    /// Replace the --output FILE if it exists, instead of numbering the new one: FILE-2
    #[arg(long, requires = "output")]
    pub overwrite: bool,
    /// Show each frame so many ms later than it could be, 0 to 1000: steadier where the network is not
    #[arg(long, default_value = "0", value_name = "MS", value_parser = values::playout_delay)]
    pub playout_delay: Duration,
    /// Of an incomplete frame show the strips that have come, over the picture before
    #[arg(long, conflicts_with = "playout_delay")]
    pub conceal: bool,
}

/// Whether to open a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Show {
    /// A window.
    Window,
    /// None.
    None,
    /// None, but every frame is decoded as if there were one: to measure.
    #[value(hide = true)]
    Decode,
}

/// How the network is used.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkArgs {
    /// The largest datagram, in bytes of UDP payload; auto begins with 1200 and tries what passes
    #[arg(long, default_value = "auto", value_name = "BYTES|auto", value_parser = values::max_datagram_len)]
    pub mtu: MaxDatagramLen,
    /// Parity against losses, as a percentage of what is sent; auto goes by the losses, and is 25
    /// with --no-control
    #[arg(long, default_value = "auto", value_name = "auto|off|PERCENT", value_parser = values::fec)]
    pub fec: FecMode,
    /// The most that is sent to each receiver, in bits a second, with k, M or G; pictures of a fixed
    /// quality are left out for it [default: what the path can bear]
    #[arg(long, value_name = "BITS", value_parser = values::bitrate)]
    pub max_bitrate: Option<u64>,
    /// How many datagrams a system call moves: auto, batched (when receiving) or single
    #[arg(long, default_value = "auto", value_name = "auto|batched|single", value_parser = values::offload, hide_short_help = true)]
    pub offload: Offload,
    /// The DSCP of what is sent, 0 to 63; auto is 34 (AF41), off is 0
    #[arg(long, default_value = "auto", value_name = "auto|off|N", value_parser = values::dscp, hide_short_help = true)]
    pub dscp: Dscp,
    /// A bad network: loss=2%,burst=4,delay=5ms,jitter=2ms,reorder=1%,duplicate=1%,corrupt=0.1%,rate=20mbit,seed=7 [default: none of it]
    #[arg(long, value_name = "SPEC")]
    pub netem: Option<NetemSpec>,
    /// What to call yourself [default: your user and host name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// Who we are, and whom we speak with.
#[derive(Debug, Args)]
#[command(next_help_heading = "Trust")]
pub struct TrustArgs {
    /// Who you are; made if it is not there [default: udpchat/identity in your configuration folder]
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// The keys that you know [default: beside the default identity]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub known_peers: Option<PathBuf>,
    /// Only with who knows this code; without CODE, who waits makes one, and who calls types it
    #[arg(
        long, value_name = "CODE", num_args = 0..=1, default_missing_value = "",
        env = "UDPCHAT_CODE", hide_env_values = true,
    )]
    pub code: Option<String>,
}

/// Who may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accept {
    /// Whose key we know.
    Known,
    /// Who knows the code.
    Code,
    /// Everybody.
    Any,
}

/// What is reported while it runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Messages")]
pub struct ReportArgs {
    /// Print a line of statistics every second
    #[arg(long)]
    pub stats: bool,
    /// Write a JSON object of statistics every second to FILE, or - for standard output [default: nowhere]
    #[arg(long, value_name = "FILE|-")]
    pub stats_json: Option<PathBuf>,
}

const SEND_EXAMPLES: &str = "\
Example:
  udpchat send --to 192.168.1.20                         the first camera
  udpchat send --to desk --source film.mp4 --quality 60  a file
  ffmpeg -re -i x.mkv -f yuv4mpegpipe - | udpchat send --to desk --source -";

const RECV_EXAMPLES: &str = "\
Example:
  udpchat recv                                 a window
  udpchat recv --show none --output call.avi   a recording
  udpchat recv --output - | ffplay -           a pipe

Keys in the window:
  q, Esc quit   f full screen   m mirror   i statistics   s snapshot   space freeze";

const CHAT_EXAMPLES: &str = "\
Example:
  udpchat chat                on one machine
  udpchat chat 192.168.1.20   on the other

Type a line in the terminal to say it; it is printed and shown at the other side.";

const DEMO_EXAMPLES: &str = "\
Example:
  udpchat demo                                        the pattern, for ten seconds
  udpchat demo --netem 'loss=2%,delay=5ms' --json     over a bad network, for a script";
