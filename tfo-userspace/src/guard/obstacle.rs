//! Obstacles to a guard on a host, with the remedy.

/// A setting of the host against a guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// Its name.
    pub check: &'static str,
    /// The setting that was found, and its effect.
    pub found: String,
    /// The remedy: text, or one shell command a line.
    pub remedy: String,
    /// The effect on the guard.
    pub weight: Weight,
}

/// The effect of an obstacle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The guard breaks connections to this port; 0 for the ports without a rule of their own.
    Breaks(u16),
    /// The guard breaks connections to this port of hosts behind this one.
    BreaksBehind(u16),
    /// The guard does nothing.
    Idle,
    /// The setting cannot be read.
    Unknown,
}

impl Obstacle {
    /// The guard must not be put in force.
    pub const fn refuses(&self) -> bool {
        matches!(self.weight, Weight::Breaks(_) | Weight::BreaksBehind(_))
    }

    /// Cause and remedy as a text for the terminal or the log. Commands stand on lines of their own.
    pub fn text(&self) -> String {
        if self.remedy.contains('\n') {
            let commands = self.remedy.replace('\n', "\n  ");
            format!(
                "{}. These commands make it work (--force guards it nevertheless):\n  {commands}",
                self.found
            )
        } else {
            format!("{}: {}", self.found, self.remedy)
        }
    }

    /// The remedy on one line.
    pub fn short_remedy(&self) -> String {
        self.remedy.replace('\n', " && ")
    }
}
