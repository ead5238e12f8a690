//! How bad something is, as a monitoring plugin tells it, and why. Pure.

/// The severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is fine.
    Ok,
    /// Attention is needed at some point.
    Warning,
    /// Attention is needed now.
    Critical,
    /// The state cannot be determined.
    Unknown,
}

impl Verdict {
    /// The word for it.
    pub fn name(self) -> &'static str {
        ["ok", "warning", "critical", "unknown"][self as usize]
    }

    /// The exit status of a monitoring plugin.
    pub fn exit_status(self) -> u8 {
        self as u8
    }

    /// A critical one is the worst, so that what cannot be read does not hide it.
    pub fn gravity(self) -> u8 {
        match self {
            Verdict::Ok => 0,
            Verdict::Warning => 1,
            Verdict::Unknown => 2,
            Verdict::Critical => 3,
        }
    }
}

/// What there is to say of each thing that was checked, and the worst of it.
pub struct Remarks {
    /// The worst.
    pub verdict: Verdict,
    /// The reasons, for people.
    pub texts: Vec<String>,
}

impl Default for Remarks {
    fn default() -> Remarks {
        Remarks { verdict: Verdict::Ok, texts: Vec::new() }
    }
}

impl Remarks {
    /// One thing more.
    pub fn add(&mut self, verdict: Verdict, text: String) {
        if verdict.gravity() > self.verdict.gravity() {
            self.verdict = verdict;
        }
        // Several things may be unknown for the same reason.
        if !self.texts.contains(&text) {
            self.texts.push(text);
        }
    }
}
