//! What tells how a process has ended.

/// What tells how a process has ended, the surest first. It is shown to the administrator and not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// The process that reaped it: its parent.
    Parent,
    /// The kernel, asked after the reaping (Linux 6.15).
    Kernel,
    /// The zombie in /proc.
    Zombie,
    /// The process on its way out, in /proc.
    Leaving,
    /// The signal handler's record.
    Handler,
    /// What it said in exit(3).
    Exit,
    /// What its Go runtime wrote.
    GoRuntime,
    /// The count of processes that were killed for the memory limit.
    MemoryLimit,
}

impl Witness {
    /// A word for `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parent => "parent",
            Self::Kernel => "kernel",
            Self::Zombie => "zombie",
            Self::Leaving => "leaving",
            Self::Handler => "handler",
            Self::Exit => "exit",
            Self::GoRuntime => "go_runtime",
            Self::MemoryLimit => "memory_limit",
        }
    }

    /// Why a process died of which nothing else is known.
    pub fn class(self) -> Option<&'static str> {
        (self == Self::MemoryLimit).then_some("memory limit")
    }
}
