//! Questions to the user: one at a time and rate-limited. Each stays until it is answered, or
//! withdrawn because the caller has gone or was rejected.

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::rate_limit::RateLimit;
use crate::net::{
    crypto::keys::PublicKey,
    session::{AskId, Peer},
};

/// Whether to admit a caller.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) ask: AskId,
    pub(super) peer: Peer,
    pub(super) key: PublicKey,
    pub(super) text: String,
}

/// The open questions: the shown one first, the others in order of arrival. The network side bounds
/// their number.
#[derive(Debug)]
pub(super) struct Questions {
    open: VecDeque<Question>,
    /// When the first question was shown, if it was.
    shown: Option<Instant>,
    rate_limit: RateLimit<IpAddr>,
}

/// The meaning of a typed line.
#[derive(Debug)]
pub(super) enum Typed {
    /// No question is shown.
    NoQuestion,
    /// Typed before the question can have been read, so not an answer to it.
    TooSoon,
    /// Neither yes nor no.
    Unclear,
    /// The answer to this question; true for yes.
    Answer(Question, bool),
}

impl Questions {
    pub(super) fn new() -> Self {
        let rate_limit = RateLimit::per_minute(MAX_PER_MINUTE_EACH, MAX_PER_MINUTE);
        Self { open: VecDeque::new(), shown: None, rate_limit }
    }

    /// Adds `question` after the others.
    pub(super) fn push(&mut self, question: Question) {
        self.open.push_back(question);
    }

    /// The question to show now, if none is shown yet. Questions about callers over the rate limit
    /// are skipped.
    pub(super) fn show(&mut self, now: Instant) -> Option<&Question> {
        if self.shown.is_some() {
            return None;
        }
        let rate_limit = &mut self.rate_limit;
        let at =
            self.open.iter().position(|question| rate_limit.take(now, question.peer.addr.ip()))?;
        let next = self.open.remove(at)?;
        self.open.push_front(next);
        self.shown = Some(now);
        self.open.front()
    }

    /// The question that is shown.
    pub(super) fn shown(&self) -> Option<&Question> {
        self.shown.and(self.open.front())
    }

    /// Withdraws a question; returns it and whether it was shown.
    pub(super) fn withdraw(&mut self, ask: AskId) -> Option<(Question, bool)> {
        let at = self.open.iter().position(|question| question.ask == ask)?;
        let was_shown = at == 0 && self.shown.is_some();
        let question = self.open.remove(at)?;
        if at == 0 {
            self.shown = None;
        }
        Some((question, was_shown))
    }

    /// Interprets a `line` typed at `now`.
    pub(super) fn answer(&mut self, now: Instant, line: &str) -> Typed {
        let Some(shown) = self.shown else { return Typed::NoQuestion };
        if now.saturating_duration_since(shown) < READING_TIME {
            return Typed::TooSoon;
        }
        let is_yes = match line.trim().to_lowercase().as_str() {
            "y" | "yes" => true,
            "" | "n" | "no" => false,
            _ => return Typed::Unclear,
        };
        self.take_first().map_or(Typed::NoQuestion, |question| Typed::Answer(question, is_yes))
    }

    fn take_first(&mut self) -> Option<Question> {
        self.shown = None;
        self.open.pop_front()
    }
}

/// A line typed sooner was probably meant for something else, for example an earlier caller.
const READING_TIME: Duration = Duration::from_secs(1);

/// Questions shown per minute about callers from one address.
const MAX_PER_MINUTE_EACH: usize = 3;
const MAX_PER_MINUTE: usize = 6;

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
    fn questions_are_shown_and_answered_one_at_a_time() {
        let now = crate::clock::now();
        let mut questions = Questions::new();
        assert!(matches!(questions.answer(now, "yes"), Typed::NoQuestion));
        questions.push(question(1, 1));
        questions.push(question(2, 2));
        assert_eq!(shown(&mut questions, now), Some(AskId(1)));
        assert_eq!(shown(&mut questions, now), None);
        let read = now + READING_TIME;
        assert!(matches!(questions.answer(read, "what?"), Typed::Unclear));
        let Typed::Answer(answered, true) = questions.answer(read, " Yes\n") else { panic!() };
        assert_eq!(answered.ask, AskId(1));
        assert!(matches!(questions.answer(read, "yes"), Typed::NoQuestion), "not shown yet");
        assert_eq!(shown(&mut questions, read), Some(AskId(2)));
    }

    #[test]
    fn an_answer_right_after_the_question_changes_is_too_soon() {
        let now = crate::clock::now();
        let mut questions = Questions::new();
        questions.push(question(1, 1));
        questions.push(question(2, 2));
        shown(&mut questions, now);
        let later = now + 5 * READING_TIME;
        assert!(questions.withdraw(AskId(1)).is_some_and(|(_, was_shown)| was_shown));
        shown(&mut questions, later);
        assert!(matches!(questions.answer(later + READING_TIME / 2, "y"), Typed::TooSoon));
        assert!(matches!(questions.answer(later + READING_TIME, "n"), Typed::Answer(_, false)));
    }

    #[test]
    fn withdrawing_a_waiting_question_keeps_the_shown_one() {
        let now = crate::clock::now();
        let mut questions = Questions::new();
        questions.push(question(1, 1));
        questions.push(question(2, 2));
        shown(&mut questions, now);
        assert!(questions.withdraw(AskId(2)).is_some_and(|(_, was_shown)| !was_shown));
        let tomorrow = now + Duration::from_secs(86_400);
        assert_eq!(shown(&mut questions, tomorrow), None, "it is shown already");
        assert_eq!(questions.shown().map(|question| question.ask), Some(AskId(1)));
        assert!(matches!(questions.answer(tomorrow, "y"), Typed::Answer(_, true)));
    }

    #[test]
    fn questions_about_one_caller_are_rate_limited() {
        let now = crate::clock::now();
        let mut questions = Questions::new();
        for ask in 0..4 {
            questions.push(question(ask, 1));
            let is_shown = shown(&mut questions, now).is_some();
            assert_eq!(is_shown, ask < 3);
            if is_shown {
                questions.withdraw(AskId(ask));
            }
        }
        questions.push(question(9, 2));
        assert_eq!(shown(&mut questions, now), Some(AskId(9)), "other callers need not wait");
        questions.withdraw(AskId(9));
        let later = now + Duration::from_secs(60);
        assert_eq!(shown(&mut questions, later), Some(AskId(3)));
    }

    #[test]
    fn questions_about_many_callers_are_rate_limited() {
        let now = crate::clock::now();
        let mut questions = Questions::new();
        let asked = (1..20).filter(|&last| {
            questions.push(question(last.into(), last));
            let is_shown = shown(&mut questions, now).is_some();
            questions.withdraw(AskId(last.into()));
            is_shown
        });
        assert_eq!(asked.count(), MAX_PER_MINUTE);
    }
}
