//! Every verb and option.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, builder::Resettable};

use super::values::{self, MaxDatagramLen, Rate};
use crate::{
    net::{
        io::{Dscp, HostPort, Offload, bind_addr, host_port},
        netem::NetemSpec,
        recovery::parity_control::FecMode,
        units::Bitrate,
    },
    stream::{
        adaptation::Quality,
        encode::{EncoderConfig, Pipeline},
    },
    video::{image::Size, jpeg::Strips, sink::OutputSpec, source::SourceSpec},
};

/// Face-to-face video without sound, and the lowest-latency camera link between two machines.
///
/// One way: run `udpchat recv` on one machine, and `udpchat send --to HOST` on the other. Both
/// ways: `udpchat chat`, and `udpchat chat HOST`. To try it on one machine: `udpchat demo`.
#[derive(Debug, Parser)]
#[command(
    name = "udpchat",
    version,
    max_term_width = 100,
    infer_subcommands = false,
    after_help = EXAMPLES
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,

    /// Print more: -v events, -vv details, -vvv everything [default: warnings]
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Messages")]
    pub verbose: u8,

    /// Print errors only
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
    #[command(after_help = with_window_keys(RECV_EXAMPLES))]
    Recv(RecvArgs),
    /// Two-way video and text chat: call HOST, or wait for a call
    #[command(after_help = with_window_keys(CHAT_EXAMPLES))]
    Chat(ChatArgs),
    /// Stream to this machine itself over real UDP, and report the latency of each stage
    #[command(
        after_help = with_window_keys(DEMO_EXAMPLES),
        mut_arg("netem", |arg| arg.hide_short_help(false))
    )]
    Demo(DemoArgs),
    /// List the cameras with their formats, sizes and frame rates
    #[command(after_help = "Examples:\n  udpchat devices")]
    Devices,
    /// Check this machine for common problems, and print remedies
    #[command(after_help = "Examples:\n  udpchat doctor")]
    Doctor(DoctorArgs),
    /// Print the completion script for a shell
    #[command(
        after_help = "Examples:\n  udpchat completions bash > ~/.local/share/bash-completion/completions/udpchat"
    )]
    Completions {
        /// Shell to print the script for
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write one for each command
    #[command(after_help = "Examples:\n  udpchat man | man -l -")]
    Man {
        /// Write udpchat.1 and a page for each command into this folder, which must exist
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// `udpchat send`.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// Receiver; repeat for several [default port: 7722]
    #[arg(long, value_name = "HOST[:PORT]", required = true, value_parser = host_port)]
    pub to: Vec<HostPort>,
    /// Where the picture comes from.
    #[command(flatten)]
    pub source: SourceArgs,
    /// How it is sent.
    #[command(flatten)]
    pub sending: SendingArgs,
    /// How the network is used.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Send at once, without a TCP connection: for one-way links. Nothing is reported back, so auto
    /// is 80 for --quality and 25 for --fec
    #[arg(long, help_heading = "Network", conflicts_with_all = ["code", "name"])]
    pub no_control: bool,
    /// Identity and trust.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// With --no-control: encrypt with the key in FILE, created if missing; the receiver needs the
    /// same key [default: not encrypted]
    #[arg(long, value_name = "FILE", requires = "no_control", help_heading = "Trust")]
    pub key_file: Option<PathBuf>,
    /// What is reported.
    #[command(flatten)]
    pub report: ReportArgs,
    /// Stop after N seconds [default: never]
    #[arg(long, value_name = "N", value_parser = values::seconds, help_heading = Resettable::Reset)]
    pub seconds: Option<Duration>,
}

/// `udpchat recv`.
#[derive(Debug, Args)]
pub struct RecvArgs {
    /// Address and port to listen on, UDP and TCP [default: all addresses, port 7722]
    ///
    /// A link-local address needs its interface: [ADDR%eth0]:PORT
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = bind_addr)]
    pub bind: Option<SocketAddr>,
    /// Where the picture goes.
    #[command(flatten)]
    pub sink: SinkArgs,
    /// How the network is used.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Do not listen on TCP: show only streams sent with --no-control
    #[arg(long, help_heading = "Network", conflicts_with_all = ["code", "accept", "name"])]
    pub no_control: bool,
    /// Identity and trust.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Which senders may connect [default: any; with --code, those who know it]
    #[arg(long, value_enum, value_name = "known|code|any", help_heading = "Trust")]
    pub accept: Option<Accept>,
    /// Accept streams sent with --no-control only if they are encrypted with the key in FILE,
    /// created if missing
    #[arg(long, value_name = "FILE", help_heading = "Trust")]
    pub key_file: Option<PathBuf>,
    /// What is reported.
    #[command(flatten)]
    pub report: ReportArgs,
    /// Stop after N seconds [default: never]
    #[arg(long, value_name = "N", value_parser = values::seconds, help_heading = Resettable::Reset)]
    pub seconds: Option<Duration>,
}

/// `udpchat chat`.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// Peer to call; without HOST, wait for a call [default port: 7722]
    #[arg(value_name = "HOST[:PORT]", value_parser = host_port)]
    pub host: Option<HostPort>,
    /// Address and port to listen on, UDP and TCP [default: all addresses, port 7722]
    ///
    /// A link-local address needs its interface: [ADDR%eth0]:PORT
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = bind_addr, conflicts_with = "host")]
    pub bind: Option<SocketAddr>,
    /// Where the picture comes from.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Where the picture goes.
    #[command(flatten)]
    pub sink: SinkArgs,
    /// How it is sent.
    #[command(flatten)]
    pub sending: SendingArgs,
    /// How the network is used.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Identity and trust.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Which callers may see your camera [default: known ones, and those you accept; with --code,
    /// those who know it]
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
    /// Stop after N seconds [default: never]
    #[arg(long, value_name = "N", value_parser = values::seconds, help_heading = Resettable::Reset)]
    pub seconds: Option<Duration>,
}

/// `udpchat demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How long to run, in seconds
    #[arg(long, value_name = "N", value_parser = values::seconds, default_value = "10")]
    pub seconds: Duration,
    /// Print the report as a JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the picture comes from.
    #[command(flatten)]
    pub source: DemoSourceArgs,
    /// Where the picture goes.
    #[command(flatten)]
    pub sink: SinkArgs,
    /// How it is sent.
    #[command(flatten)]
    pub sending: SendingArgs,
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
    /// camera, camera:N, pattern, a video or image file, a URL (such as rtsp:// or http://), or a
    /// pipe of YUV4MPEG2 or JPEGs (- for standard input, or the path of a named pipe), which ends
    /// when its last writer closes it
    #[arg(long, default_value = "camera", value_name = "SOURCE", value_parser = values::source())]
    pub source: SourceSpec,
    /// How the picture is made.
    #[command(flatten)]
    pub encoding: EncodingArgs,
}

/// The source and encoding of the demo, with the pattern as default.
#[derive(Debug, Args)]
#[command(next_help_heading = "Picture")]
pub struct DemoSourceArgs {
    /// pattern, camera, camera:N, a video or image file, a URL (such as rtsp:// or http://), or a
    /// pipe of YUV4MPEG2 or JPEGs (- for standard input, or the path of a named pipe), which ends
    /// when its last writer closes it
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
    /// JPEG quality, 1 to 100. auto adapts to the network: at most 80 (90 for scaled-down
    /// pictures), then smaller pictures, then fewer. JPEGs from a camera or a pipe are passed
    /// through; auto encodes them again, at most at 95, if the network cannot carry them
    #[arg(long, default_value = "auto", value_name = "1..100|auto", value_parser = values::quality)]
    pub quality: Quality,
    /// Picture size; JPEGs from a camera or a pipe are not scaled [default: 1280x720 for camera and
    /// pattern, otherwise the source's own]
    #[arg(long, value_name = "WxH")]
    pub size: Option<Size>,
    /// Frames per second, 0.1 to 1000; max: as fast as they are shown, for the pattern or a
    /// file. For a pipe, sets only the rate announced to the receiver; ignored for a URL [default:
    /// the source's own rate, or 30]
    #[arg(long, value_name = "N|max", value_parser = values::rate)]
    pub fps: Option<Rate>,
    /// Encode in greyscale (the test pattern becomes a fifth smaller); JPEGs that are passed
    /// through keep their colours
    #[arg(long, hide_short_help = true)]
    pub gray: bool,
    /// Strips per picture, encoded in parallel, 1 to 16; auto depends on cores and picture size
    #[arg(
        long,
        default_value = "auto",
        value_name = "auto|N",
        value_parser = values::strips,
        hide_short_help = true
    )]
    pub strips: Strips,
    /// Send strips while later ones are still being encoded; auto: unless the receiver is on this
    /// machine
    #[arg(
        long,
        default_value = "auto",
        value_name = "auto|on|off",
        value_parser = values::pipeline(),
        hide_short_help = true
    )]
    pub pipeline: Pipeline,
    /// Play a file or URL once, instead of looping or reconnecting
    #[arg(long)]
    pub once: bool,
}

impl EncodingArgs {
    /// The options of the encoder. The others are the source's.
    pub(crate) fn encoder(&self) -> EncoderConfig {
        let Self { quality, strips, gray, pipeline, .. } = *self;
        EncoderConfig { quality, strips, gray, pipeline }
    }
}

/// Where the picture goes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Display")]
pub struct SinkArgs {
    /// Whether to open a window [default: window, if there is a display]
    #[arg(long, value_enum, value_name = "window|none")]
    pub show: Option<Show>,
    /// Record to FILE.y4m, FILE.mjpeg or FILE.avi; - writes YUV4MPEG2 to standard output
    #[arg(long, value_name = "FILE|-", value_parser = values::output())]
    pub output: Option<OutputSpec>,
    /// Replace the --output FILE if it exists, instead of numbering the new one: FILE-2
    #[arg(long, requires = "output")]
    pub overwrite: bool,
    /// Delay each frame by MS milliseconds, 0 to 1000, for steadier motion on an unsteady network
    #[arg(
        long,
        default_value = "0",
        value_name = "MS",
        value_parser = values::playout_delay,
        hide_short_help = true
    )]
    pub playout_delay: Duration,
    /// Show incomplete frames, filling gaps from the previous one
    #[arg(long, conflicts_with = "playout_delay", hide_short_help = true)]
    pub conceal: bool,
}

/// Whether to open a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Show {
    /// Open a window.
    Window,
    /// Open no window.
    None,
    /// No window, but decode every frame (for measurements).
    #[value(hide = true)]
    Decode,
}

/// How pictures are sent.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub struct SendingArgs {
    /// Largest datagram, in bytes of UDP payload; auto starts at 1200 and probes the path MTU
    #[arg(
        long,
        default_value = "auto",
        value_name = "BYTES|auto",
        value_parser = values::max_datagram_len,
        hide_short_help = true
    )]
    pub mtu: MaxDatagramLen,
    /// Parity (forward error correction), in percent of the data sent; auto adapts to the loss
    #[arg(
        long,
        default_value = "auto",
        value_name = "auto|off|PERCENT",
        value_parser = values::fec,
        hide_short_help = true
    )]
    pub fec: FecMode,
    /// Maximum bitrate per receiver, in bit/s (suffix k, M or G); with a fixed --quality, frames
    /// are skipped to stay below it [default: what the network can carry]
    #[arg(long, value_name = "BITS", value_parser = values::bitrate)]
    pub max_bitrate: Option<Bitrate>,
}

impl Default for SendingArgs {
    fn default() -> Self {
        Self { mtu: MaxDatagramLen(None), fec: FecMode::Auto, max_bitrate: None }
    }
}

/// How the network is used.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkArgs {
    /// Datagrams per system call: auto (as many as the system supports), batched (one when sending,
    /// several when receiving) or single (one)
    #[arg(long, default_value = "auto", value_name = "auto|batched|single", value_parser = values::offload, hide_short_help = true)]
    pub offload: Offload,
    /// DSCP of outgoing datagrams, 0 to 63; auto is 34 (AF41), off is 0
    #[arg(long, default_value = "auto", value_name = "auto|off|N", value_parser = values::dscp, hide_short_help = true)]
    pub dscp: Dscp,
    /// Simulate network impairments on the datagrams sent (recv: on those received):
    /// loss=2%,delay=5ms,jitter=2ms,rate=20mbit (also burst=4, reorder=1%, duplicate=1%,
    /// corrupt=0.1%, queue=100ms, seed=7; no spaces)
    #[arg(long, value_name = "SPEC", hide_short_help = true)]
    pub netem: Option<NetemSpec>,
}

/// Identity and trust.
#[derive(Debug, Args)]
#[command(next_help_heading = "Trust")]
pub struct TrustArgs {
    /// Your name, as the other side sees it [default: your user and host name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Identity key file, created if missing [default: udpchat/identity in your configuration
    /// folder]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub identity: Option<PathBuf>,
    /// File with the keys of known peers [default: `udpchat/known_peers` in your configuration
    /// folder]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub known_peers: Option<PathBuf>,
    /// Require a shared code. Without CODE, the listener generates one and the caller is prompted
    #[arg(
        long, value_name = "CODE", num_args = 0..=1, default_missing_value = "",
        env = "UDPCHAT_CODE", hide_env_values = true,
    )]
    pub code: Option<String>,
}

/// Which callers are admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accept {
    /// Peers whose key is known.
    Known,
    /// Peers who know the code.
    Code,
    /// Any caller.
    Any,
}

/// What is reported while it runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Messages")]
pub struct ReportArgs {
    /// Print a line of statistics every second
    #[arg(long)]
    pub stats: bool,
    /// Write statistics to FILE, or - for standard output, as a JSON object every second
    #[arg(long, value_name = "FILE|-")]
    pub stats_json: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  udpchat demo                       try it on this machine
  udpchat chat                       wait for a call
  udpchat chat 192.168.1.20          call the machine that waits there
  udpchat help send                  all options of a command";

const SEND_EXAMPLES: &str = "\
Examples:
  udpchat send --to 192.168.1.20                         the first camera
  udpchat send --to desk --source film.mp4 --quality 60  a file
  ffmpeg -re -i x.mkv -f yuv4mpegpipe - | udpchat send --to desk --source -";

const RECV_EXAMPLES: &str = "\
Examples:
  udpchat recv                                 a window
  udpchat recv --show none --output call.avi   a recording
  udpchat recv --output - | ffplay -           a pipe";

const CHAT_EXAMPLES: &str = "\
Examples:
  udpchat chat                       on one machine
  udpchat chat 192.168.1.20          on the other
  udpchat chat --code                print a code, and require it
  udpchat chat 192.168.1.20 --code   prompt for that code

Type a line in the terminal to send it; the other side prints it and shows it over the picture.";

const DEMO_EXAMPLES: &str = "\
Examples:
  udpchat demo                                        the pattern, for ten seconds
  udpchat demo --netem 'loss=2%,delay=5ms' --json     with loss and delay, reported as JSON";

const WINDOW_KEYS: &str = "\
Keys in the window:
  q, Esc quit   f full screen   m mirror   i statistics   s snapshot   space freeze";

fn with_window_keys(examples: &str) -> String {
    format!("{examples}\n\n{WINDOW_KEYS}")
}
