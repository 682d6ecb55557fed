//! Identity, known peers and admission.
//!
//! - `secret_file`: identities and shared keys on disk.
//! - `known_peers`: the file of known keys.
//! - `consent`: the rules.
//! - `questions`: questions to the user.
//! - `pending_pins`: keys to pin once a call has begun.
//! - `rate_limit`: rate limits for messages and questions about strangers.
//!
//! This module applies them to the network's requests.

mod bounded_file;
mod consent;
pub(crate) mod known_peers;
mod pending_pins;
mod questions;
mod rate_limit;
pub(crate) mod secret_file;

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use etcetera::BaseStrategy;
use zeroize::Zeroizing;

use super::{
    terminal::{self, messages::Messages},
    usage::UsageError,
};
use crate::{
    cli::args::{Accept, TrustArgs},
    clock,
    net::{
        crypto::{
            code::{Code, CodeTooShort},
            keys::{Identity, PublicKey, SharedSecret},
        },
        io::Handle,
        session::{Admission, AskId, Event, GiveUpReason, OneWay, Peer, Verdict},
        wire::text::Name,
    },
};
use consent::{AuthenticatedPeer, Decision, Policy};
use known_peers::KnownPeers;
use pending_pins::{PendingPins, PinRole};
use questions::{Question, Questions, Typed};
use rate_limit::RateLimit;

/// The network side's keys and admission settings.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) identity: Identity,
    pub(crate) secret: Option<SharedSecret>,
    pub(crate) admission: Admission,
    pub(crate) one_way: OneWay,
}

/// A verb's side of a call, from which its default admission policy follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallRole {
    /// It calls a host.
    Calls,
    /// It is called, and only receives.
    Receives,
    /// It is called, and sends its camera to the caller.
    SendsCamera,
}

/// Our identity, the known peers and the admission policy.
#[derive(Debug)]
pub(crate) struct Trust {
    credentials: Credentials,
    /// `None`: there is no file of known peers.
    known: Option<KnownPeers>,
    policy: Policy,
    questions: Questions,
    pending_pins: PendingPins,
    /// Limits reports of callers, by key and whether it was admitted.
    report_limit: RateLimit<(PublicKey, bool)>,
    /// Why the host that we called is not trusted.
    distrust: Option<String>,
}

impl Credentials {
    /// Temporary credentials, for a side that connects only within this program.
    pub(crate) fn temporary() -> Self {
        Self {
            identity: Identity::generate(),
            secret: None,
            admission: Admission::Anyone,
            one_way: OneWay::Clear,
        }
    }
}

impl Trust {
    /// Sets up identity, known peers and policy from the options. Questions are asked at the
    /// terminal, if standard input is one.
    ///
    /// Without a `control` channel no peer proves its identity. Neither the identity nor the known
    /// peers are then read, and the files need not be accessible.
    pub(crate) fn new(
        args: &TrustArgs,
        control: bool,
        accept: Option<Accept>,
        key_file: Option<&Path>,
        side: CallRole,
        messages: &Messages,
    ) -> Result<Self> {
        let (identity, known) =
            if control { own_files(args, messages)? } else { (Identity::generate(), None) };
        let code = code(args, side, messages)?;
        let policy = policy(accept, side, code.is_some())?;
        let one_way = match key_file {
            Some(path) => OneWay::Sealed(shared_key(path, messages)?),
            None if policy == Policy::Known || code.is_some() => OneWay::Refused,
            None => OneWay::Clear,
        };
        let secret = code.map(|code| code.secret());
        let credentials = Credentials { identity, secret, admission: Admission::Asked, one_way };
        let (questions, pending_pins) = (Questions::new(), PendingPins::default());
        let report_limit = RateLimit::per_minute(1, MAX_REPORTS_PER_MINUTE);
        Ok(Self {
            credentials,
            known,
            policy,
            questions,
            pending_pins,
            report_limit,
            distrust: None,
        })
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Answers the network's requests, or asks the user.
    pub(crate) fn handle_event(&mut self, event: &Event, handle: &Handle, messages: &Messages) {
        match event {
            Event::Asked { ask, peer, key, host, has_code } => {
                let host = host.as_ref().map(|host| with_port(host, peer.addr.port()));
                let applicant = AuthenticatedPeer { peer, key: *key, host, has_code: *has_code };
                self.judge(*ask, &applicant, handle, messages);
            }
            Event::AskEnded { ask } => {
                if let Some((question, true)) = self.questions.withdraw(*ask) {
                    messages.info(&format!(
                        "{} is no longer waiting",
                        crate::stream::describe::who(&question.peer)
                    ));
                }
            }
            Event::Connected { peer, .. } => {
                for (key, role) in self.pending_pins.take_for(peer) {
                    self.remember(key, role, messages);
                }
            }
            _ => {}
        }
        self.show_question(messages);
    }

    /// Why our own policy refused the key of the host that was given up, if it did. Each reason is
    /// returned once.
    pub(crate) fn take_refusal(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::GivenUp { reason: GiveUpReason::Untrusted, .. } => self.distrust.take(),
            _ => None,
        }
    }

    /// Takes a line from the terminal; returns whether it was for a question.
    pub(crate) fn take_typed(&mut self, line: &str, handle: &Handle, messages: &Messages) -> bool {
        match self.questions.answer(clock::now(), line) {
            Typed::NoQuestion => return false,
            Typed::TooSoon => {
                messages
                    .prompt("that was typed too soon to count as an answer; please answer again");
            }
            Typed::Unclear => messages.prompt("yes or no?"),
            Typed::Answer(Question { ask, peer, key, .. }, true) => {
                let name = peer.name.unwrap_or_else(|| Name::new(""));
                self.pending_pins.add(peer.addr, key, PinRole::Caller(name));
                handle.answer(ask, Verdict::Admit);
            }
            Typed::Answer(question, false) => handle.answer(question.ask, Verdict::Refuse),
        }
        self.show_question(messages);
        true
    }

    /// Shows a waiting question once it may be shown.
    pub(crate) fn tick(&mut self, messages: &Messages) {
        self.show_question(messages);
    }

    /// The caller whose question is shown in the terminal.
    pub(crate) fn caller(&self) -> Option<&Peer> {
        self.questions.shown().map(|question| &question.peer)
    }

    fn show_question(&mut self, messages: &Messages) {
        if let Some(question) = self.questions.show(clock::now()) {
            let hint = " (to answer, bring this job to the foreground: fg)";
            let hint = if terminal::is_foreground() { "" } else { hint };
            messages.prompt(&format!("{}{hint}", question.text));
        }
    }

    fn judge(
        &mut self,
        ask: AskId,
        applicant: &AuthenticatedPeer<'_>,
        handle: &Handle,
        messages: &Messages,
    ) {
        let own = self.credentials.identity.public_key();
        let judged = self.policy.judge(applicant, own, self.known.as_ref());
        let judgement = judged.unwrap_or_else(|error| Decision::Refuse(format!("{error:#}")));
        let (now, key, addr) = (clock::now(), applicant.key, applicant.peer.addr);
        let verdict = match judgement {
            Decision::Admit(line) => {
                if let Some(line) = line
                    && self.report_limit.take(now, (key, true))
                {
                    messages.info(&line);
                }
                Verdict::Admit
            }
            Decision::Pin(host) => {
                if self.pending_pins.add(addr, key, PinRole::Host(host.clone())) {
                    messages.info(&format!("{host} has the fingerprint {}", key.fingerprint()));
                }
                Verdict::Admit
            }
            Decision::Refuse(why) => {
                if applicant.host.is_some() {
                    self.distrust = Some(why);
                } else if self.report_limit.take(now, (key, false)) {
                    messages.info(&why);
                }
                Verdict::Refuse
            }
            Decision::Ask(text) => {
                let question = Question { ask, peer: applicant.peer.clone(), key, text };
                return self.questions.push(question);
            }
        };
        handle.answer(ask, verdict);
    }

    fn remember(&self, key: PublicKey, role: PinRole, messages: &Messages) {
        let Some(known) = &self.known else { return };
        let pinned = match role {
            PinRole::Host(host) => known.pin_host(&host, key),
            PinRole::Caller(name) => known.pin_caller(name, key),
        };
        if let Err(error) = pinned {
            messages.info(&format!("cannot save the peer's key: {error:#}"));
        }
    }
}

/// Our identity and the known peers, from the files that the options name or from the user's
/// configuration folder.
///
/// If that folder can be neither read nor created, the run uses a temporary identity and has no
/// known peers, and says so once. A file that an option names must be readable. A file that exists
/// but cannot be read is an error; it is never replaced.
fn own_files(args: &TrustArgs, messages: &Messages) -> Result<(Identity, Option<KnownPeers>)> {
    let folder = etcetera::choose_base_strategy().ok().map(|s| s.config_dir().join("udpchat"));
    let default_path = |name: &str| {
        let no_home = || OutOfReach("no home directory was found".to_owned());
        folder.as_ref().map(|folder| folder.join(name)).ok_or_else(no_home)
    };
    let identity = match &args.identity {
        Some(path) => Ok(identity_in(path, messages)?),
        None => open_if_reachable(default_path("identity"), |path| identity_in(path, messages))?,
    };
    let known = match &args.known_peers {
        Some(path) => Ok(known_in(path)?),
        None => match (&identity, open_if_reachable(default_path("known_peers"), known_in)?) {
            // The identity could not be created in this folder, so neither can this file.
            (Err(why), Ok(known)) if !known.path().exists() => Err(why.clone()),
            (_, known) => known,
        },
    };
    if let Some(line) = out_of_reach(identity.as_ref().err(), known.as_ref().err()) {
        messages.info(&line);
    }
    Ok((identity.unwrap_or_else(|_| Identity::generate()), known.ok()))
}

/// Why a file of the configuration folder neither exists nor can be created.
#[derive(Clone, Debug)]
struct OutOfReach(String);

/// The result of `open` at `path`, or `OutOfReach` if the file neither exists nor can be created.
fn open_if_reachable<T>(
    path: Result<PathBuf, OutOfReach>,
    open: impl FnOnce(&Path) -> Result<T>,
) -> Result<Result<T, OutOfReach>> {
    let path = match path {
        Ok(path) => path,
        Err(why) => return Ok(Err(why)),
    };
    match open(&path) {
        Ok(opened) => Ok(Ok(opened)),
        Err(error) if error.is::<std::io::Error>() && path.metadata().is_err() => {
            Ok(Err(OutOfReach(format!("{error:#}"))))
        }
        Err(error) => Err(error),
    }
}

/// The message if the identity, the known peers or both are out of reach.
fn out_of_reach(identity: Option<&OutOfReach>, known: Option<&OutOfReach>) -> Option<String> {
    let OutOfReach(why) = identity.or(known)?;
    Some(match (identity, known) {
        (Some(_), Some(_)) => format!(
            "{why}: this run uses a temporary identity and has no known peers (--identity FILE --known-peers FILE)"
        ),
        (Some(_), None) => format!("{why}: this run uses a temporary identity (--identity FILE)"),
        (None, _) => format!("{why}: this run has no known peers (--known-peers FILE)"),
    })
}

/// The identity in `path`, created if missing.
fn identity_in(path: &Path, messages: &Messages) -> Result<Identity> {
    let make = || {
        let identity = Identity::generate();
        let fingerprint = identity.public_key().fingerprint();
        let bytes = Zeroizing::new(*identity.as_bytes());
        (bytes, format!("udpchat identity key, fingerprint {fingerprint}; keep it secret"))
    };
    let secret = secret_file::read_or_make(path, make)?;
    let identity = Identity::from_bytes(*secret.bytes);
    if secret.is_new {
        let fingerprint = identity.public_key().fingerprint();
        messages.info(&format!("your fingerprint is {fingerprint}, in {}", path.display()));
    }
    Ok(identity)
}

/// The known peers in `path`. Fails now if the file cannot be read, not when someone calls.
fn known_in(path: &Path) -> Result<KnownPeers> {
    let known = KnownPeers::in_file(path.to_owned());
    known.check()?;
    Ok(known)
}

/// The key of sessions without a control channel, created if missing.
fn shared_key(path: &Path, messages: &Messages) -> Result<SharedSecret> {
    let make = || {
        let bytes = Zeroizing::new(*SharedSecret::generate().as_bytes());
        (bytes, "udpchat shared key; keep it secret".to_owned())
    };
    let secret = secret_file::read_or_make(path, make)?;
    if secret.is_new {
        messages.info(&format!("created {0}: copy it to the other side", path.display()));
    }
    Ok(SharedSecret::from_bytes(*secret.bytes))
}

/// The shared code, if any: given as an option, generated here, or typed.
fn code(args: &TrustArgs, side: CallRole, messages: &Messages) -> Result<Option<Code>> {
    let Some(given) = &args.code else { return Ok(None) };
    if !given.is_empty() {
        return typed_code(given).map(Some);
    }
    if side != CallRole::Calls {
        let code = Code::generate();
        messages.prompt(&format!("the code is {code}: type it on the other machine when it asks"));
        return Ok(Some(code));
    }
    if !std::io::stdin().is_terminal() {
        let message = "--code needs the other side's code: --code CODE, or UDPCHAT_CODE=CODE";
        return Err(UsageError::new(message).into());
    }
    if !terminal::is_foreground() {
        messages.prompt("to enter the other side's code, bring this job to the foreground: fg");
        terminal::wait_for_foreground();
    }
    let _ = write!(std::io::stderr(), "the other side's code: ");
    let typed = Zeroizing::new(rpassword::read_password().context("cannot read the code")?);
    typed_code(&typed).map(Some)
}

fn policy(accept: Option<Accept>, side: CallRole, has_code: bool) -> Result<Policy> {
    Ok(match (accept, side) {
        (Some(Accept::Known), _) => Policy::Known,
        (Some(Accept::Code), _) if !has_code => {
            return Err(
                UsageError::new("--accept code needs a code: --code, or --code CODE").into()
            );
        }
        (Some(Accept::Code), _) => Policy::Code,
        (None, _) if has_code => Policy::Code,
        (None, CallRole::SendsCamera) => Policy::Ask { can_ask: std::io::stdin().is_terminal() },
        (Some(Accept::Any), _) | (None, CallRole::Calls | CallRole::Receives) => Policy::Anyone,
    })
}

/// A host as written in the file of known peers.
fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The limit on messages about callers, over all keys. Keys cost nothing to generate, so a limit
/// per key is not enough.
const MAX_REPORTS_PER_MINUTE: usize = 20;

fn typed_code(text: &str) -> Result<Code> {
    Code::typed(text).map_err(|CodeTooShort| {
        anyhow!("{CodeTooShort}; --code alone generates one on the side that waits")
    })
}
