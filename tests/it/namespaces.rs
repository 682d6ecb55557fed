//! The program on two machines: network namespaces joined by a link that loses, duplicates or
//! corrupts datagrams, or is narrow. Needs root.
//!
//! Each lossy test repeats one row of the table that `repair.rs` checks. `repair.rs` runs it in
//! virtual time with a seed, and `repair-table.txt` holds its exact figures. Here the tests use
//! real processes, sockets and clocks. What a row loses then depends on when its threads run, so it
//! asserts only what holds under any load, and prints its figures. Where a busy machine may fall
//! short of even that, the run is repeated. A row takes 5 s; `UDPCHAT_ROW_SECONDS` changes that:
//! `UDPCHAT_ROW_SECONDS=60 cargo test --test it namespaces:: -- --nocapture`.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use udpchat::{
    clock,
    video::{
        image::{Image, PixelFormat},
        jpeg::{Encoder, Strips},
    },
};

use crate::{
    crossing::{Crossing, Running, lines, number, start},
    machines::{Machines, run},
    program::{Program, WAIT_LIMIT, alone, feed, unstarved},
};

/// Applies nftables `statements` to each packet that arrives at machine `index`.
fn impair(machines: &Machines, index: usize, statements: &str) {
    let rules = format!(
        "table ip way {{\n chain in {{\n type filter hook input priority 0;\n {statements}\n }}\n }}\n"
    );
    run(&["ip", "netns", "exec", &machines.names[index], "nft", &rules]);
}

/// A link impaired in both directions, and a bound for a stream over it.
struct Row<'a> {
    name: &'a str,
    /// nftables statements for the input hook of both machines.
    impairments: &'a [&'a str],
    options: &'a [&'a str],
    /// The bound of the row in `repair.rs`. [`LOADED_OVERHEAD`] is added to it.
    overhead: f64,
    /// The share of datagrams lost, each independently; `None`: not checked.
    loss: Option<f64>,
}

impl Row<'_> {
    fn run(&self) -> Option<Crossing> {
        let _alone = alone();
        let machines = Machines::new("nft")?;
        for index in [0, 1] {
            impair(&machines, index, &self.impairments.join("\n"));
        }
        let options = [&FIXED, self.options].concat();
        let stream = || {
            let running = Running::start(&machines, "7722", seconds(), &options, &[]);
            let crossing = running.finish();
            eprintln!("{}", crossing.line(self.name));
            crossing.assert_undamaged();
            crossing
        };
        let crossing = unstarved(|crossing| self.is_met(crossing), stream);
        let lost = self.loss.map(|loss| crossing.lost(loss));
        let line = crossing.line(self.name);
        assert!(self.is_met(&crossing), "{line}; lost, and deviation: {lost:?}");
        Some(crossing)
    }

    /// Whether enough frames arrived, at no more than the overhead, and with the row's loss.
    fn is_met(&self, crossing: &Crossing) -> bool {
        let (complete, all) = crossing.completed(0);
        let loss_is_right = self.loss.is_none_or(|loss| {
            let (lost, deviation) = crossing.lost(loss);
            (-5.0 * deviation..=5.0 * deviation + BUSY_LOSS).contains(&(lost - loss))
        });
        let enough = FEWEST_FRAMES * f64::from(seconds());
        let is_complete = complete >= NEARLY_ALL * all && all >= enough;
        is_complete && loss_is_right && crossing.overhead() <= self.overhead + LOADED_OVERHEAD
    }
}

/// Both directions lose `per_mille` of the datagrams at random.
fn loses(per_mille: u32, options: &[&str], overhead: f64) {
    let drop = format!("meta l4proto udp numgen random mod 1000 < {per_mille} drop");
    let name = &format!("{per_mille} of 1000 lost {}", options.join(" "));
    let loss = Some(f64::from(per_mille) / 1000.0);
    Row { name, impairments: &[&drop], options, overhead, loss }.run();
}

#[test]
fn a_lossless_link_carries_the_stream() {
    loses(0, &[], 0.04);
}

#[test]
fn a_stream_survives_loss_of_one_datagram_in_a_thousand() {
    loses(1, &[], 0.06);
}

#[test]
fn a_stream_survives_loss_of_one_datagram_in_a_hundred() {
    loses(10, &[], 0.10);
}

#[test]
fn a_stream_survives_loss_of_one_datagram_in_twenty() {
    loses(50, &[], 0.20);
}

#[test]
fn a_stream_survives_loss_of_one_datagram_in_ten() {
    loses(100, &[], 0.35);
}

#[test]
fn a_one_way_stream_survives_loss_of_one_datagram_in_twenty() {
    loses(50, &["--no-control", "--fec", "25"], 0.30);
}

#[test]
fn a_stream_survives_bursts_of_twenty_lost_datagrams() {
    let burst = "meta l4proto udp numgen inc mod 1000 < 20 drop";
    let name = "bursts of 20 of 1000";
    Row { name, impairments: &[burst], options: &[], overhead: 0.25, loss: None }.run();
}

#[test]
fn duplicated_and_corrupted_datagrams_do_no_damage() {
    // `dup` delivers a copy through the loopback interface. nftables leaves the UDP checksum as it
    // is. The kernel does not verify it either, since the checksums of datagrams on a veth pair are
    // offloaded, so only udpchat can detect the corruption.
    let double = "iif != lo meta l4proto udp numgen inc mod 100 < 1 dup to ip daddr device lo";
    let corrupt = "meta l4proto udp numgen inc mod 200 < 1 @th,800,8 set 0x5a";
    let row = Row {
        name: "1 % twice, 0.5 % corrupted",
        impairments: &[double, corrupt],
        options: &[],
        overhead: 0.10,
        loss: None,
    };
    let Some(crossing) = row.run() else { return };
    let datagrams = &crossing.receiver.last().expect("a line")["datagrams"];
    eprintln!("{datagrams}");
    assert!(number(&datagrams["duplicate"]) > 0.0, "{datagrams}");
    assert!(number(&datagrams["damaged"]) > 0.0, "{datagrams}");
}

#[test]
fn a_stream_adapts_to_a_ten_megabit_link() {
    let _alone = alone();
    let Some(machines) = Machines::new("tc") else { return };
    narrow(&machines, "10mbit");
    let options = ["--quality", "auto", "--mtu", "1200"];
    let goodputs = |crossing: &Crossing| -> Vec<f64> {
        let goodput = |line: &Value| line["receiver"]["goodput_mbit_s"].as_f64();
        // Without the seconds after the end.
        crossing.receiver.iter().filter_map(goodput).filter(|&mbit| mbit > 0.0).collect()
    };
    let is_nearly_complete = |crossing: &Crossing| {
        let (complete, all) = crossing.completed(2);
        all > 0.0 && complete >= 0.9 * all
    };
    let crossing = unstarved(is_nearly_complete, || {
        let crossing = Running::start(&machines, "7722", 10, &options, &[]).finish();
        let of = |line: &Value| line["receiver"]["latency_ms"]["end_to_end"]["p95"].as_f64();
        let p95: Vec<_> = crossing.receiver.iter().map(of).collect();
        let quality = &crossing.sender.last().expect("a line")["sender"]["quality"];
        let ((complete, all), goodput) = (crossing.completed(2), goodputs(&crossing));
        eprintln!(
            "10 Mbit/s: {complete} of {all} complete, p95 {p95:?}, quality {quality}, \
             {goodput:.1?} Mbit/s"
        );
        crossing.assert_undamaged();
        crossing
    });
    let (complete, all) = crossing.completed(2);
    assert!(is_nearly_complete(&crossing), "{complete} of {all} complete");
    let goodputs = goodputs(&crossing);
    let mean = goodputs.iter().sum::<f64>() / goodputs.len() as f64;
    assert!(mean <= 10.0, "{mean} Mbit/s: {goodputs:?}");
}

/// A sixth of the time at 100 Mbit/s, half of it at 10 Mbit/s, a third at 100 Mbit/s.
///
/// The quality of the pictures, its stability and its recovery depend on the processor time that is
/// available. `congestion::a_link_narrows_from_100_to_10_mbit_and_widens_again` tests these figures
/// in virtual time.
#[test]
fn a_stream_adapts_when_the_link_narrows_and_widens() {
    let _alone = alone();
    let Some(machines) = Machines::new("tc") else { return };
    let adapted = unstarved(Adapted::is_enough, || narrow_and_widen(&machines));
    assert!(adapted.is_enough(), "{adapted:?}");
}

/// How a stream adapted.
#[derive(Debug)]
struct Adapted {
    /// The send rate through 10 Mbit/s, in Mbit/s.
    sent: f64,
    /// The frames completed there, and all known to the receiver.
    complete: f64,
    all: f64,
    /// The qualities at 10 Mbit/s, and after that.
    narrow_qualities: Vec<f64>,
    wide_qualities: Vec<f64>,
}

impl Adapted {
    fn is_enough(&self) -> bool {
        let mean = self.narrow_qualities.iter().sum::<f64>() / self.narrow_qualities.len() as f64;
        let best = self.wide_qualities.iter().copied().fold(0.0, f64::max);
        // A slow machine encodes few pictures, which fit the narrow link even at the best quality.
        let has_recovered = best > mean || best >= HIGHEST_QUALITY;
        let arrives = self.complete > 0.0 && self.complete >= 0.5 * self.all;
        self.sent <= 11.0 && arrives && has_recovered
    }
}

/// Sends a stream while the link narrows and widens.
fn narrow_and_widen(machines: &Machines) -> Adapted {
    narrow(machines, "100mbit");
    let unit = Duration::from_secs(seconds().max(30).into()) / 6;
    let seconds = 6 * unit.as_secs() as u32;
    let running = Running::start(machines, "7722", seconds, &["--quality", "auto"], &[]);
    let at = |rate| {
        narrow(machines, rate);
        clock::wall().as_secs_f64()
    };
    std::thread::park_timeout(unit);
    let narrowed = at("10mbit");
    std::thread::park_timeout(unit * 3);
    let widened = at("100mbit");
    let crossing = running.finish();
    crossing.assert_undamaged();
    // Each line reports the preceding second.
    let (from, to) = (narrowed + 3.0, widened);
    let received = within(&crossing.receiver, from, to);
    let since = |name: &str| {
        let [first, .., last] = &received[..] else { return 0.0 };
        number(&last["receiver"][name]) - number(&first["receiver"][name])
    };
    let complete = since("completed");
    let adapted = Adapted {
        sent: mbit_sent(&within(&crossing.sender, from, to)),
        complete,
        all: complete + since("incomplete") + since("late"),
        narrow_qualities: qualities(&within(&crossing.sender, from, to)),
        wide_qualities: qualities(&within(&crossing.sender, widened, f64::MAX)),
    };
    eprintln!("100, 10, 100 Mbit/s: {adapted:?}");
    adapted
}

/// The lines whose wall-clock time is in `from..to`.
fn within(lines: &[Value], from: f64, to: f64) -> Vec<&Value> {
    lines.iter().filter(|line| (from..to).contains(&number(&line["time"]))).collect()
}

/// The mean send rate between the first and the last of a sender's statistics lines, in Mbit/s; not
/// a number if there are fewer than two lines.
fn mbit_sent(lines: &[&Value]) -> f64 {
    let [first, .., last] = lines else { return f64::NAN };
    let bytes = number(&last["bytes"]["sent"]) - number(&first["bytes"]["sent"]);
    bytes * 8e-6 / (number(&last["time"]) - number(&first["time"]))
}

/// The JPEG quality in each of these lines of a sender, divided by the size divisor.
fn qualities(lines: &[&Value]) -> Vec<f64> {
    let quality = |line: &&Value| {
        Some(line["sender"]["quality"].as_f64()? / line["sender"]["size_divisor"].as_f64()?)
    };
    lines.iter().filter_map(quality).collect()
}

/// All IPv4 packets of every protocol are dropped for 3 s, or for 10 s in a full-length row.
#[test]
fn a_stream_resumes_after_the_link_was_down() {
    let _alone = alone();
    let Some(machines) = Machines::new("nft") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("all.mjpeg");
    let dark = Duration::from_secs(if is_full_length() { 10 } else { 3 });
    let output = ["--output", file.to_str().expect("a plain path")];
    // It is stopped long before the time is over.
    let running = Running::start(&machines, "7722", 600, &FIXED, &output);
    wait_until(|| len(&file) > 3_000_000);
    for name in &machines.names {
        let chain = "chain in {\n type filter hook input priority 0;\n drop\n }";
        let rules = format!("table ip dark {{\n {chain}\n }}\n");
        run(&["ip", "netns", "exec", name, "nft", &rules]);
    }
    std::thread::park_timeout(dark);
    let before = len(&file);
    let unblock =
        |name| run(&["ip", "netns", "exec", name, "nft", "delete", "table", "ip", "dark"]);
    unblock(&machines.names[0]);
    let unblocked_at = clock::now();
    unblock(&machines.names[1]);
    wait_until(|| len(&file) > before);
    let back_at = clock::now();
    let after = back_at - unblocked_at;
    let back = len(&file);
    std::thread::park_timeout(Duration::from_secs(1));
    let bytes = (len(&file) - back) as f64;
    let second = (clock::now() - back_at).as_secs_f64();
    let crossing = running.stop();
    let burst = bytes / (PATTERN_FPS * crossing.picture_len()) / second;
    eprintln!(
        "{dark:?} dark: back after {after:?}, then {burst:.2} seconds of pictures a second; {}",
        crossing.line("")
    );
    // If the frames of the dark time were kept, four seconds of pictures or more would arrive.
    let (after_limit, most) =
        if is_full_length() { (Duration::from_millis(300), 1.2) } else { (WAIT_LIMIT, 2.5) };
    assert!(after <= after_limit, "back after {after:?}");
    assert!(burst <= most, "a backlog: {burst} seconds of pictures a second");
    crossing.assert_undamaged();
}

/// Both streams deliver pictures. How evenly they share the link depends on scheduling;
/// `congestion::two_streams_share_20_mbit_fairly` tests the figure in virtual time.
#[test]
fn two_streams_on_a_twenty_megabit_link_both_deliver() {
    let _alone = alone();
    let Some(machines) = Machines::new("tc") else { return };
    narrow(&machines, "20mbit");
    let seconds = seconds().max(15);
    let options = ["--quality", "auto"];
    let is_enough = |both: &[Crossing; 2]| {
        let completes = both.each_ref().map(|crossing| crossing.of_receiver("completed"));
        let share = share_of_first(both, seconds);
        completes.iter().all(|&complete| complete >= 20.0) && (0.1..=0.9).contains(&share)
    };
    let both = unstarved(is_enough, || {
        let both = ["7722", "7732"].map(|p| Running::start(&machines, p, seconds, &options, &[]));
        let both = both.map(Running::finish);
        let share = share_of_first(&both, seconds);
        let lines = both.each_ref().map(|crossing| crossing.line("of two"));
        eprintln!("two on 20 Mbit/s: the first has {share:.3}\n{}", lines.join("\n"));
        both.iter().for_each(Crossing::assert_undamaged);
        both
    });
    let completes = both.each_ref().map(|crossing| crossing.of_receiver("completed"));
    let share = share_of_first(&both, seconds);
    assert!(is_enough(&both), "{completes:?} complete frames, the first has {share}");
}

/// The first stream's share of what both delivered in the last two thirds of their `seconds`.
fn share_of_first(both: &[Crossing; 2], seconds: u32) -> f64 {
    let goodputs = both.each_ref().map(|crossing| {
        let lines = &crossing.receiver[..crossing.receiver.len().min(seconds as usize)];
        let goodput = |line: &Value| number(&line["receiver"]["goodput_mbit_s"]);
        lines[lines.len() / 3..].iter().map(goodput).sum::<f64>()
    });
    goodputs[0] / (goodputs[0] + goodputs[1])
}

/// Sets the rate of machine 0's outgoing link, with a queue of at most 100 ms. The burst is the same
/// at every rate: a queued segmentation-offload packet longer than a new, smaller burst would block
/// the queue for good.
fn narrow(machines: &Machines, rate: &str) {
    let device = ["tc", "-n", &machines.names[0], "qdisc", "replace", "dev", "v0", "root"];
    let bucket = ["tbf", "rate", rate, "burst", "20000", "latency", "100ms"];
    run(&[&device[..], &bucket].concat());
}

#[test]
fn an_icmp_report_of_a_lower_mtu_is_used_at_once() {
    let _alone = alone();
    let is_enough = |crossing: &Crossing| {
        let lens = datagram_lens(crossing);
        let longest = lens.iter().copied().fold(0.0, f64::max);
        let last = lens.last().copied().unwrap_or_default();
        let (complete, all) = crossing.completed(0);
        // For a sender that learned of it only from the receiver's reports, six frames or more
        // would be incomplete.
        (longest - 1472.0).abs() < 0.5 && (last - 1272.0).abs() < 0.5 && all - complete <= 4.0
    };
    let crossing = through_a_router(is_enough, |machines, router| {
        let options = ["--quality", "80", "--fec", "off"];
        let running = Running::start(machines, "7722", 10, &options, &[]);
        std::thread::park_timeout(Duration::from_millis(4500));
        run(&["ip", "-n", router, "link", "set", "w1", "mtu", "1300"]);
        let crossing = running.finish();
        let ((complete, all), lens) = (crossing.completed(0), datagram_lens(&crossing));
        eprintln!("{complete} of {all} complete, datagrams of {lens:?} bytes");
        crossing
    });
    let Some(crossing) = crossing else { return };
    let ((complete, all), lens) = (crossing.completed(0), datagram_lens(&crossing));
    assert!(is_enough(&crossing), "{complete} of {all} complete, datagrams of {lens:?} bytes");
}

/// The lengths of the sender's datagrams, one a second, as far as they were known.
fn datagram_lens(crossing: &Crossing) -> Vec<f64> {
    let len = |line: &Value| line["path"]["datagram_bytes"].as_f64();
    crossing.sender.iter().filter_map(len).collect()
}

/// Repeats `stream` until its crossing is enough, with new machines and a new router each time:
/// what a kernel has learned of a path must not help the next attempt. Returns the last crossing;
/// `None`: the test is skipped. No frame may be damaged.
fn through_a_router(
    is_enough: impl Fn(&Crossing) -> bool,
    stream: impl Fn(&Machines, &str) -> Crossing,
) -> Option<Crossing> {
    // Without namespaces the test is skipped here. Later attempts must be able to create them.
    drop(Machines::routed()?);
    Some(unstarved(is_enough, || {
        let machines = Machines::routed().expect("namespaces, as before");
        let crossing = stream(&machines, machines.router.as_ref().expect("one between them"));
        crossing.assert_undamaged();
        crossing
    }))
}

/// Streams over a link whose interfaces both have this MTU.
fn stream_over_interface_mtu(mtu: &str, options: &[&str]) {
    let _alone = alone();
    let Some(machines) = Machines::new("nft") else { return };
    for index in [0, 1] {
        let link = format!("v{index}");
        run(&["ip", "-n", &machines.names[index], "link", "set", &link, "mtu", mtu]);
    }
    // The first frame is packetized before the interface refuses a datagram.
    let is_enough = |crossing: &Crossing| {
        let (complete, all) = crossing.completed(0);
        complete >= 40.0 && all - complete <= 5.0 + 0.05 * all
    };
    let crossing = unstarved(is_enough, || {
        let crossing = Running::start(&machines, "7722", 5, options, &[]).finish();
        let (complete, all) = crossing.completed(0);
        eprintln!("{complete} of {all} frames complete at an MTU of {mtu}");
        crossing.assert_undamaged();
        crossing
    });
    let (complete, all) = crossing.completed(0);
    assert!(is_enough(&crossing), "{complete} of {all} at an MTU of {mtu}");
}

#[test]
fn an_interface_mtu_below_the_base_is_used() {
    for mtu in ["1200", "1000", "576", "300", "228"] {
        stream_over_interface_mtu(mtu, &["--quality", "80"]);
    }
}

#[test]
fn a_one_way_sender_uses_an_interface_mtu_below_the_base() {
    stream_over_interface_mtu("1000", &["--quality", "80", "--no-control"]);
}

/// No receiver runs. The MTU is reported on dialling, since TCP may not even connect, or, without a
/// control channel, when a datagram is refused.
#[test]
fn an_interface_mtu_too_small_for_udpchat_is_reported_once() {
    let _alone = alone();
    let Some(machines) = Machines::new("nft") else { return };
    for mtu in ["227", "68"] {
        for index in [0, 1] {
            let link = format!("v{index}");
            run(&["ip", "-n", &machines.names[index], "link", "set", &link, "mtu", mtu]);
        }
        for options in [&[][..], &["--no-control"]] {
            let args = ["send", "--to", machines.addresses[1], "--source", "pattern"];
            let sender = start(&machines, 0, &[&args[..], options].concat());
            let said = sender.wait_for("has an MTU of");
            assert!(said.contains(&format!("MTU of {mtu} bytes, and udpchat needs 228")), "{said}");
            std::thread::park_timeout(Duration::from_secs(2));
            let told = sender.stderr_lines().iter().filter(|line| line.contains("MTU")).count();
            sender.interrupt();
            sender.finish().expect_success();
            assert_eq!(told, 1, "at {mtu} with {options:?}");
        }
    }
}

/// Streams through a router whose next link has this MTU. If `is_mute`, its ICMP is dropped.
fn stream_through_router_mtu(mtu: &str, is_mute: bool, options: &[&str]) {
    let _alone = alone();
    // A busy machine may skip most of the captured frames. The path's MTU must not make more than
    // 5 % of the others incomplete.
    let is_enough = |crossing: &Crossing| {
        let (complete, all) = crossing.completed(3);
        let is_most = all - complete <= 0.05 * all;
        complete > 0.0 && complete >= 0.25 * crossing.captured(3) && is_most
    };
    let crossing = through_a_router(is_enough, |machines, router| {
        run(&["ip", "-n", router, "link", "set", "w1", "mtu", mtu]);
        if is_mute {
            let chain =
                "chain out {\n type filter hook output priority 0;\n ip protocol icmp drop\n }";
            let rules = format!("table ip mute {{\n {chain}\n }}\n");
            run(&["ip", "netns", "exec", router, "nft", &rules]);
        }
        let crossing = Running::start(machines, "7722", 8, options, &[]).finish();
        let (complete, all) = crossing.completed(3);
        eprintln!("{complete} of {all} frames complete through a router of {mtu}, mute: {is_mute}");
        crossing
    });
    let Some(crossing) = crossing else { return };
    let ((complete, all), captured) = (crossing.completed(3), crossing.captured(3));
    assert!(is_enough(&crossing), "{complete} complete of {all}, of {captured} captured");
}

#[test]
fn an_mtu_below_the_base_is_found_behind_a_mute_router() {
    for mtu in ["1000", "576"] {
        stream_through_router_mtu(mtu, true, &["--quality", "80"]);
    }
}

#[test]
fn a_one_way_sender_uses_an_mtu_reported_by_icmp() {
    stream_through_router_mtu("1000", false, &["--quality", "80", "--no-control"]);
}

#[test]
fn a_firewall_that_blocks_udp_is_reported() {
    let _alone = alone();
    let Some(machines) = Machines::new("nft") else { return };
    impair(&machines, 1, "meta l4proto udp drop");
    let receiver = start(&machines, 1, &["recv", "--show", "none"]);
    receiver.wait_for("listening on port 7722");
    let _sender =
        start(&machines, 0, &["send", "--to", machines.addresses[1], "--source", "pattern"]);
    let said = receiver.wait_for("UDP is probably blocked");
    assert!(said.contains("UDP port 7722"), "{said}");
}

/// Calls a receiver at the second of its two addresses, from behind a stateful firewall that admits
/// only replies.
fn called_at_the_second_address(first: &str, second: &str) {
    let _alone = alone();
    let Some(machines) = Machines::new("nft") else { return };
    let add = |index: usize, address: &str| {
        let (name, link) = (&machines.names[index], format!("v{index}"));
        let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        run(&[&["ip", "-n", name, "addr", "add", address, "dev", &link][..], nodad].concat());
    };
    if first.contains(':') {
        add(0, &first.replace("::1", "::9"));
        add(1, first);
    }
    add(1, second);
    let rules = "table inet f {\n chain in {\n type filter hook input priority 0; policy drop;\n \
                 ct state established,related accept\n iif lo accept\n meta l4proto icmpv6 accept\n }\n}\n";
    run(&["ip", "netns", "exec", &machines.names[0], "nft", rules]);
    let receiver = start(&machines, 1, &["recv", "--show", "none"]);
    receiver.wait_for("listening on port 7722");
    let to = second.split('/').next().expect("an address");
    let args = ["send", "--to", to, "--source", "pattern", "--seconds", "5", "--stats-json", "-"];
    let sender = start(&machines, 0, &args).finish_after(Duration::from_secs(5));
    sender.expect_success();
    let said = receiver.stderr_lines().join("\n");
    receiver.interrupt();
    receiver.finish().expect_success();
    let lines = lines(&sender.stdout);
    let last = lines.last().expect("a line a second");
    eprintln!("called at {to}: {}", last["datagrams"]);
    assert!(number(&last["datagrams"]["received"]) > 5.0, "{}", last["datagrams"]);
    for said in [said, sender.stderr] {
        assert!(!said.contains("blocked"), "{said}");
    }
}

#[test]
fn answers_are_sent_from_the_ipv4_address_that_was_called() {
    called_at_the_second_address("10.77.31.2/24", "10.77.31.102/24");
}

#[test]
fn answers_are_sent_from_the_ipv6_address_that_was_called() {
    called_at_the_second_address("fd77:31::1/64", "fd77:31::102/64");
}

#[test]
fn link_local_addresses_work_with_their_interface() {
    let _alone = alone();
    let Some(machines) = Machines::new("ip") else { return };
    for (index, address) in [(0, "fe80::a/64"), (1, "fe80::b/64")] {
        let (name, link) = (&machines.names[index], format!("v{index}"));
        run(&["ip", "-n", name, "addr", "add", address, "dev", &link, "nodad"]);
    }
    for options in [&[][..], &["--no-control"]] {
        let bind = ["recv", "--bind", "[fe80::b%v1]:7722", "--show", "none"];
        let receiver = start(&machines, 1, &bind);
        receiver.wait_for("udpchat send --to fe80::b%v1");
        let args = ["send", "--to", "fe80::b%v0", "--source", "pattern"];
        let sender = start(&machines, 0, &[&args[..], options].concat());
        receiver.wait_for(" streams ");
        sender.interrupt();
        sender.finish().expect_success();
        receiver.interrupt();
        receiver.finish().expect_success();
    }
}

#[test]
fn local_faults_are_reported_instead_of_no_answer() {
    let _alone = alone();
    let Some(machines) = Machines::new("nft") else { return };
    let says = |to: &str, options: &[&str], what: &str| {
        let args = ["send", "--to", to, "--source", "pattern"];
        let sender = start(&machines, 0, &[&args[..], options].concat());
        let line = sender.wait_for("waiting for ");
        assert!(line.contains(what) && !line.contains("no answer"), "{line}");
        sender.interrupt();
        sender.finish().expect_success();
    };
    for options in [&[][..], &["--no-control"]] {
        says("192.0.2.1", options, "Network is unreachable");
        says("fe80::b", options, "Invalid argument (a link-local address needs the interface");
        says("fe80::b%nowhere", options, "no interface is called 'nowhere'");
        says("desk.invalid", options, "its address is not known");
        says("10.77.31.255", options, "cannot call a broadcast or multicast address");
    }
    // No machine has this address. The kernel would report that after 3 s; the rule reports it at
    // once.
    let rules = "table ip f {\n chain out {\n type filter hook output priority 0;\n \
                 ip daddr 10.77.31.9 counter reject with icmp type admin-prohibited\n }\n}\n";
    run(&["ip", "netns", "exec", &machines.names[0], "nft", rules]);
    says("10.77.31.9", &[], "No route to host");
    says("10.77.31.9", &["--no-control"], "No route to host");
}

/// The only picture of a source may be sent before a receiver accepts the call. One that is busy
/// then gets it later, and one that has got it does not get it again.
#[test]
fn a_single_jpeg_arrives_once_whenever_the_receiver_accepts_it() {
    let _alone = alone();
    let Some(machines) = Machines::new("ip") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let photo = photo();
    for (is_busy, is_first) in [(false, true), (true, true), (false, false)] {
        let file = dir.path().join(format!("{is_busy} {is_first}.mjpeg"));
        let args = ["recv", "--show", "none", "--output", file.to_str().expect("UTF-8")];
        let start_receiver = || {
            let receiver = start(&machines, 1, &args);
            receiver.wait_for("listening on port");
            receiver
        };
        let receiver = is_first.then(start_receiver);
        let to = ["send", "--to", machines.addresses[1]];
        let other = is_busy.then(|| {
            let other = start(&machines, 0, &[&to[..], &["--source", "pattern"]].concat());
            receiver.as_ref().expect("it is busy").wait_for(" streams ");
            other
        });
        let mut command = machines.udpchat(0);
        let command = command.args(to).args(["--source", "-"]);
        let mut sender = Program::spawn(command.stdin(Stdio::piped()).stdout(Stdio::null()));
        feed(sender.stdin(), &photo);
        if let Some(other) = other {
            sender.wait_for("waiting for ");
            other.interrupt();
            other.finish().expect_success();
        }
        let receiver = receiver.unwrap_or_else(|| {
            sender.wait_for("waiting for ");
            start_receiver()
        });
        sender.finish().expect_success();
        receiver.interrupt();
        receiver.finish().expect_success();
        let recorded = std::fs::read(&file).expect("a recording");
        let copies = recorded.windows(photo.len()).filter(|&bytes| bytes == photo).count();
        assert_eq!(copies, 1, "busy: {is_busy}, called after it started: {is_first}");
    }
}

/// A JPEG of about 100 KB.
fn photo() -> Vec<u8> {
    let mut image = Image::blank(640, 480, PixelFormat::Yuv422);
    image.data.iter_mut().enumerate().for_each(|(i, value)| *value = (i * 7 % 251) as u8);
    let mut photo = Vec::new();
    Encoder::new(80, Strips::Count(1)).encode(&image, &mut photo).expect("encodes");
    photo
}

fn len(file: &Path) -> u64 {
    file.metadata().map_or(0, |m| m.len())
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let until = clock::now() + WAIT_LIMIT;
    while !done() {
        assert!(clock::now() < until, "timed out");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// The length of a row in seconds.
fn seconds() -> u32 {
    let told = std::env::var("UDPCHAT_ROW_SECONDS").ok();
    told.map_or(5, |seconds| seconds.parse().expect("a number of seconds"))
}

/// Whether rows are of the full length that their bounds assume.
fn is_full_length() -> bool {
    seconds() >= 60
}

/// The highest quality that `--quality auto` chooses.
const HIGHEST_QUALITY: f64 = 80.0;

/// The minimum share of complete frames in every row, under any load. Without repair, the loss of
/// one datagram in a hundred leaves more than half of the frames incomplete.
const NEARLY_ALL: f64 = 0.9;

/// The minimum frames a second for a row to count. A slower run is repeated, and fails in the end.
const FEWEST_FRAMES: f64 = 5.0;

/// The share of datagrams that a busy machine may lose itself.
const BUSY_LOSS: f64 = 0.002;

/// The frame rate of the pattern.
const PATTERN_FPS: f64 = 30.0;

/// Overhead for parity and retransmissions that only a busy machine needs: late threads look like
/// loss.
const LOADED_OVERHEAD: f64 = 0.2;

/// 720p frames of 90 to 98 chunks, in datagrams that fit Ethernet's MTU of 1500 bytes.
const FIXED: [&str; 4] = ["--quality", "100", "--mtu", "1472"];
