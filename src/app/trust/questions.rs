//! What somebody at this machine is being asked: one thing at a time, and not too often.

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::quota::Quota;
use crate::net::{
    crypto::keys::PublicKey,
    session::{AskId, Peer},
};

/// Whether a caller may come in.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) ask: AskId,
    pub(super) peer: Peer,
    pub(super) key: PublicKey,
    pub(super) text: String,
}

/// Those that wait for an answer, in the order in which they came.
#[derive(Debug)]
pub(super) struct Questions {
    open: VecDeque<Question>,
    /// Since when people see the first of them.
    shown: Option<Instant>,
    quota: Quota<IpAddr>,
}

/// What a typed line is to them.
#[derive(Debug)]
pub(super) enum Typed {
    /// There is no question.
    NoAnswer,
    /// It was typed before anybody can have read the question, which is none of what it answers.
    TooSoon,
    /// Neither yes nor no.
    Unclear,
    /// The answer to this one: whether it is yes.
    Answer(Question, bool),
}

impl Questions {
    pub(super) fn new() -> Self {
        let quota = Quota::a_minute(MAX_A_MINUTE_EACH, MAX_A_MINUTE);
        Self { open: VecDeque::new(), shown: None, quota }
    }

    /// Puts `question` behind those that wait; `false`: there have been too many.
    pub(super) fn push(&mut self, now: Instant, question: Question) -> bool {
        let may = self.quota.take(now, question.peer.addr.ip());
        if may {
            self.open.push_back(question);
        }
        may
    }

    /// The one to show now, if it is not shown yet.
    pub(super) fn show(&mut self, now: Instant) -> Option<&Question> {
        let first = self.open.front()?;
        if self.shown.is_some() {
            return None;
        }
        self.shown = Some(now);
        Some(first)
    }

    /// Takes back a question, of whatever place; whether people saw it.
    pub(super) fn withdraw(&mut self, ask: AskId) -> Option<(Question, bool)> {
        let at = self.open.iter().position(|question| question.ask == ask)?;
        let was_shown = at == 0 && self.shown.is_some();
        let question = self.open.remove(at)?;
        if at == 0 {
            self.shown = None;
        }
        Some((question, was_shown))
    }

    /// What `line`, just typed, is to the question that people see.
    pub(super) fn answer(&mut self, now: Instant, line: &str) -> Typed {
        let Some(shown) = self.shown else { return Typed::NoAnswer };
        if now.saturating_duration_since(shown) < READING_TIME {
            return Typed::TooSoon;
        }
        let is_yes = match line.trim().to_lowercase().as_str() {
            "y" | "yes" => true,
            "" | "n" | "no" => false,
            _ => return Typed::Unclear,
        };
        self.take_first().map_or(Typed::NoAnswer, |question| Typed::Answer(question, is_yes))
    }

    /// The question that nobody has answered in time.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Question> {
        let shown = self.shown?;
        if now.saturating_duration_since(shown) < PATIENCE { None } else { self.take_first() }
    }

    fn take_first(&mut self) -> Option<Question> {
        self.shown = None;
        self.open.pop_front()
    }
}

/// How long somebody may think about a caller.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is typed sooner was meant for something else: another caller, who has just gone, say.
const READING_TIME: Duration = Duration::from_secs(1);

/// Whoever calls again and again is asked about so often.
const MAX_A_MINUTE_EACH: usize = 3;
const MAX_A_MINUTE: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::crypto::keys::KEY_LEN;

    fn question(ask: u64, last: u8) -> Question {
        let key = PublicKey::from_bytes([last; KEY_LEN]);
        let addr = ([10, 0, 0, last], 5).into();
        let peer = Peer { name: None, addr, key: Some(key) };
        Question { ask: AskId(ask), peer, key, text: format!("question {ask}") }
    }

    fn shown(questions: &mut Questions, now: Instant) -> Option<AskId> {
        questions.show(now).map(|question| question.ask)
    }

    #[test]
    fn one_is_shown_at_a_time_and_what_is_typed_answers_that_one() {
        let now = crate::clock::now();
        let mut questions = Questions::new();
        assert!(matches!(questions.answer(now, "yes"), Typed::NoAnswer));
        assert!(questions.push(now, question(1, 1)) && questions.push(now, question(2, 2)));
        assert_eq!(shown(&mut questions, now), Some(AskId(1)));
        assert_eq!(shown(&mut questions, now), None);
        let read = now + READING_TIME;
        assert!(matches!(questions.answer(read, "what?"), Typed::Unclear));
        let Typed::Answer(answered, true) = questions.answer(read, " Yes\n") else { panic!() };
        assert_eq!(answered.ask, AskId(1));
        assert!(matches!(questions.answer(read, "yes"), Typed::NoAnswer), "not shown yet");
        assert_eq!(shown(&mut questions, read), Some(AskId(2)));
    }

    #[test]
    fn a_yes_meant_for_who_has_gone_is_no_answer_to_who_is_next() {
        let now = crate::clock::now();
        let mut questions = Questions::new();
        assert!(questions.push(now, question(1, 1)) && questions.push(now, question(2, 2)));
        shown(&mut questions, now);
        let later = now + 5 * READING_TIME;
        assert!(questions.withdraw(AskId(1)).is_some_and(|(_, was_shown)| was_shown));
        shown(&mut questions, later);
        assert!(matches!(questions.answer(later + READING_TIME / 2, "y"), Typed::TooSoon));
        assert!(matches!(questions.answer(later + READING_TIME, "n"), Typed::Answer(_, false)));
    }

    #[test]
    fn a_question_that_waits_can_be_withdrawn_and_one_that_is_shown_expires() {
        let now = crate::clock::now();
        let mut questions = Questions::new();
        assert!(questions.push(now, question(1, 1)) && questions.push(now, question(2, 2)));
        shown(&mut questions, now);
        assert!(questions.withdraw(AskId(2)).is_some_and(|(_, was_shown)| !was_shown));
        assert!(questions.expire(now + PATIENCE / 2).is_none());
        assert_eq!(questions.expire(now + PATIENCE).map(|question| question.ask), Some(AskId(1)));
        assert!(questions.expire(now + 2 * PATIENCE).is_none());
    }

    #[test]
    fn whoever_calls_again_and_again_is_not_asked_about_every_time() {
        let now = crate::clock::now();
        let mut questions = Questions::new();
        let one: Vec<bool> = (0..4).map(|ask| questions.push(now, question(ask, 1))).collect();
        assert_eq!(one, [true, true, true, false]);
        let others = (2..20).filter(|&last| questions.push(now, question(9, last))).count();
        assert_eq!(others, MAX_A_MINUTE - 3);
    }
}
