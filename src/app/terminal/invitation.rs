//! Commands suggested to the user: one that connects the other side to us, and one that helps a
//! caller whose call fails. They are built from the options in force.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use crate::{
    app::network::resolve::own_address,
    cli::args::{ChatArgs, RecvArgs, SendArgs},
    net::{
        io::{DEFAULT_PORT, interface_of},
        session::{Event, GiveUpReason, WaitReason},
    },
};

/// The command that helps a caller whose call fails.
#[derive(Debug, Default)]
pub(crate) struct Advice {
    /// The verb that the other side should run, and the one that we should run instead.
    verbs: Option<[&'static str; 2]>,
    /// The hosts that we call, with their ports.
    targets: Vec<(String, u16)>,
    has_code: bool,
}

impl Advice {
    /// For a sender.
    pub(crate) fn of_send(args: &SendArgs) -> Self {
        let targets = args.to.iter().map(|to| (to.host.clone(), to.port)).collect();
        Self { verbs: Some(["recv", "chat"]), targets, has_code: args.trust.code.is_some() }
    }

    /// For a chat that calls; empty for one that waits.
    pub(crate) fn of_chat(args: &ChatArgs) -> Self {
        let Some(to) = &args.host else { return Self::default() };
        let targets = vec![(to.host.clone(), to.port)];
        Self { verbs: Some(["chat", "send --to"]), targets, has_code: args.trust.code.is_some() }
    }

    /// Appends the helpful command, if any, to `line`, the description of `event`.
    pub(crate) fn add(&self, line: String, event: &Event) -> String {
        match self.on(event) {
            Some(advice) => format!("{line}: {advice}"),
            None => line,
        }
    }

    /// The helpful command for `event`.
    fn on(&self, event: &Event) -> Option<String> {
        let [theirs, instead] = self.verbs?;
        match event {
            Event::Waiting { port, reason: WaitReason::NobodyListens, .. } => {
                let bind = match *port {
                    DEFAULT_PORT => String::new(),
                    port => format!(" --bind :{port}"),
                };
                let code = if self.has_code { " with the same --code" } else { "" };
                Some(format!("start `udpchat {theirs}{bind}` there{code}"))
            }
            Event::GivenUp { host, reason: GiveUpReason::Unwanted { .. } } => {
                let port = self.targets.iter().find(|(name, _)| name == host)?.1;
                let code = if self.has_code { " --code" } else { "" };
                let address = quoted(&address(host, port));
                Some(format!("call it with `udpchat {instead} {address}{code}`"))
            }
            _ => None,
        }
    }
}

/// The command that the other side types to connect to us.
#[derive(Debug)]
pub(crate) struct Invitation {
    verb: &'static [&'static str],
    /// `None`: this machine has no address that others can reach.
    ip: Option<IpAddr>,
    zone: Option<String>,
    port: u16,
    /// For a stream without a control channel, which may need a key file.
    no_control: bool,
    key_file: Option<PathBuf>,
    /// Whether the command ends with `--code`, so that it prompts for the code. The code itself is
    /// not part of the command line, which other users of that machine can see.
    prompts_for_code: bool,
}

impl Invitation {
    /// To stream to a receiver that listens on `addr`.
    pub(crate) fn to_send(args: &RecvArgs, addr: SocketAddr) -> Self {
        let key_file = args.key_file.clone().filter(|_| args.no_control);
        let prompts_for_code = args.trust.code.is_some();
        Self {
            no_control: args.no_control,
            key_file,
            ..Self::new(&["send", "--to"], addr, prompts_for_code)
        }
    }

    /// To call a chat that waits on `addr`.
    pub(crate) fn to_chat(args: &ChatArgs, addr: SocketAddr) -> Self {
        Self::new(&["chat"], addr, args.trust.code.is_some())
    }

    fn new(verb: &'static [&'static str], addr: SocketAddr, prompts_for_code: bool) -> Self {
        let ip = addr.ip();
        let ip = if ip.is_unspecified() { own_address(ip.is_ipv4()) } else { Some(ip) };
        let (zone, port) = (interface_of(addr), addr.port());
        Self { verb, ip, zone, port, no_control: false, key_file: None, prompts_for_code }
    }

    /// Where to type the command.
    pub(crate) fn place(&self) -> &'static str {
        match self.ip {
            Some(ip) if !ip.is_loopback() => "on the other machine",
            _ => "on this machine",
        }
    }

    /// The place, as a heading above the command.
    pub(crate) fn heading(&self) -> String {
        format!("{}:", capitalized(self.place()))
    }

    /// The command to type.
    pub(crate) fn command(&self) -> String {
        let mut words = vec!["udpchat".to_owned()];
        words.extend(self.verb.iter().map(|word| (*word).to_owned()));
        words.push(quoted(&self.host()));
        if self.no_control {
            words.push("--no-control".into());
        }
        if let Some(file) = &self.key_file {
            words.extend(["--key-file".into(), quoted_path(file)]);
        }
        // Last, since the next argument would be taken as the code.
        if self.prompts_for_code {
            words.push("--code".into());
        }
        words.join(" ")
    }

    /// The place and the command in one line.
    pub(crate) fn line(&self) -> String {
        let zone = self.zone.as_ref().map_or_else(String::new, |zone| {
            format!(" (replace {zone} with its own interface on this network)")
        });
        format!("{}: {}{zone}", self.place(), self.command())
    }

    fn host(&self) -> String {
        let host = match (self.ip, &self.zone) {
            (None, _) => "localhost".to_owned(),
            (Some(ip), Some(zone)) => format!("{ip}%{zone}"),
            (Some(ip), None) => ip.to_string(),
        };
        address(&host, self.port)
    }
}

/// `HOST[:PORT]` as typed.
fn address(host: &str, port: u16) -> String {
    match port {
        DEFAULT_PORT => host.to_owned(),
        port if host.contains(':') => format!("[{host}]:{port}"),
        port => format!("{host}:{port}"),
    }
}

/// `text` with a capital first letter.
pub(crate) fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// `word` quoted for a shell, if it needs quotes. zsh expands brackets.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:%,@+=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{
        cli::{
            Cli,
            args::{SendArgs, Verb},
        },
        net::io::HostPort,
    };

    fn parsed(words: &[String]) -> Verb {
        Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{words:?}: {error}")).verb
    }

    /// Splits `command` into words as a shell does.
    fn words(command: &str) -> Vec<String> {
        let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
        let mut chars = command.chars();
        while let Some(c) = chars.next() {
            match c {
                '\'' => is_quoted = !is_quoted,
                '\\' if !is_quoted => word.extend(chars.next()),
                ' ' if !is_quoted => words.push(std::mem::take(&mut word)),
                c => word.push(c),
            }
        }
        words.push(word);
        words
    }

    fn recv(options: &str) -> RecvArgs {
        let Verb::Recv(args) = parsed(&words(&format!("udpchat recv{options}"))) else { panic!() };
        args
    }

    #[test]
    fn the_command_shown_by_a_receiver_streams_to_it() {
        for (options, addr, command) in [
            ("", "192.168.1.20:7722", "udpchat send --to 192.168.1.20"),
            ("", "192.168.1.20:99", "udpchat send --to 192.168.1.20:99"),
            ("", "[2001:db8::1]:7722", "udpchat send --to 2001:db8::1"),
            ("", "[2001:db8::1]:99", "udpchat send --to '[2001:db8::1]:99'"),
            (" --code", "10.0.0.1:7722", "udpchat send --to 10.0.0.1 --code"),
            (" --code 'my own words'", "10.0.0.1:7722", "udpchat send --to 10.0.0.1 --code"),
            (" --accept known", "10.0.0.1:7722", "udpchat send --to 10.0.0.1"),
            (" --key-file k", "10.0.0.1:7722", "udpchat send --to 10.0.0.1"),
            (" --no-control", "10.0.0.1:7722", "udpchat send --to 10.0.0.1 --no-control"),
            (
                " --no-control --key-file 'Ann'\\''s key'",
                "10.0.0.1:9",
                "udpchat send --to 10.0.0.1:9 --no-control --key-file 'Ann'\\''s key'",
            ),
        ] {
            let (args, addr) = (recv(options), addr.parse::<SocketAddr>().unwrap());
            let invitation = Invitation::to_send(&args, addr);
            assert_eq!(invitation.command(), command, "{options}");
            assert_eq!(invitation.line(), format!("on the other machine: {command}"));
            let Verb::Send(SendArgs { to, trust, no_control, key_file, .. }) =
                parsed(&words(&invitation.command()))
            else {
                panic!("{command}")
            };
            assert_eq!(to, [HostPort { host: addr.ip().to_string(), port: addr.port() }]);
            assert_eq!(no_control, args.no_control);
            assert_eq!(key_file, args.key_file.filter(|_| no_control));
            assert_eq!(trust.code.as_deref(), args.trust.code.map(|_| ""), "prompts for the code");
        }
    }

    #[test]
    fn the_command_shown_by_a_chat_calls_it() {
        for (options, command) in [
            ("", "udpchat chat '[2001:db8::1]:99'"),
            (" --code", "udpchat chat '[2001:db8::1]:99' --code"),
            (" --accept any --bind :99", "udpchat chat '[2001:db8::1]:99'"),
        ] {
            let addr = "[2001:db8::1]:99".parse().unwrap();
            let Verb::Chat(args) = parsed(&words(&format!("udpchat chat{options}"))) else {
                panic!()
            };
            let shown = Invitation::to_chat(&args, addr).command();
            assert_eq!(shown, command);
            let Verb::Chat(calls) = parsed(&words(&shown)) else { panic!() };
            assert_eq!(calls.host, Some(HostPort { host: "2001:db8::1".into(), port: 99 }));
            assert_eq!(calls.trust.code.as_deref(), args.trust.code.map(|_| ""));
        }
    }

    #[test]
    fn commands_in_advice_to_callers_are_correct() {
        let host = "desk".to_owned();
        for (calls, port, start, instead) in [
            ("send --to desk", 7722, "recv", "chat desk"),
            ("send --to desk:99", 99, "recv --bind :99", "chat desk:99"),
            ("chat desk", 7722, "chat", "send --to desk"),
            ("chat desk:99 --code xxxxxxxxxx", 99, "chat --bind :99", "send --to desk:99 --code"),
        ] {
            let advice = match parsed(&words(&format!("udpchat {calls}"))) {
                Verb::Send(args) => Advice::of_send(&args),
                Verb::Chat(args) => Advice::of_chat(&args),
                _ => panic!(),
            };
            let nobody =
                Event::Waiting { host: host.clone(), port, reason: WaitReason::NobodyListens };
            let wants = crate::net::wire::control::Purpose::Chat;
            let reason = GiveUpReason::Unwanted { wants };
            let unwanted = Event::GivenUp { host: host.clone(), reason };
            for (event, expected) in [(nobody, start), (unwanted, instead)] {
                let said = advice.on(&event).unwrap();
                let command = said.split('`').nth(1).unwrap();
                assert_eq!(command, format!("udpchat {expected}"), "{calls}");
                parsed(&words(command));
            }
        }
        let Verb::Chat(waits) = parsed(&words("udpchat chat")) else { panic!() };
        let event = Event::Waiting { host, port: 1, reason: WaitReason::NobodyListens };
        assert_eq!(Advice::of_chat(&waits).on(&event), None);
    }

    #[test]
    fn loopback_addresses_are_shown_for_this_machine_only() {
        for addr in ["127.0.0.1:7722", "[::1]:99"] {
            let invitation = Invitation::to_send(&recv(""), addr.parse().unwrap());
            assert_eq!(invitation.place(), "on this machine", "{addr}");
        }
        let offline = Invitation {
            ip: None,
            ..Invitation::new(&["chat"], "[::]:99".parse().unwrap(), false)
        };
        assert_eq!(offline.line(), "on this machine: udpchat chat localhost:99");
    }

    #[test]
    fn a_link_local_address_is_shown_with_its_zone_and_a_hint() {
        let addr =
            SocketAddr::V6(std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 99, 0, 1));
        let invitation = Invitation::to_send(&recv(""), addr);
        let command = invitation.command();
        let name = interface_of(addr).unwrap();
        assert_eq!(command, format!("udpchat send --to '[fe80::1%{name}]:99'"));
        let Verb::Send(args) = parsed(&words(&command)) else { panic!() };
        assert_eq!(args.to, [HostPort { host: format!("fe80::1%{name}"), port: 99 }]);
        assert!(invitation.line().contains("its own interface"), "{}", invitation.line());
    }
}
