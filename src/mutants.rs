//! Deliberate defects, to show that the tests find such ones (`tests/mutants.rs`, docs/testing.md).
//!
//! Where the right code asks `mutants::is_on`, it goes wrong in one way if that mutant is switched on.
//! Only with the feature `mutants`; otherwise `is_on` is the constant `false`, and nothing of it is in the
//! binary. One mutant at a time, for the whole process.

#[cfg(feature = "mutants")]
use std::sync::atomic::{AtomicUsize, Ordering};

macro_rules! mutants {
    ($($mutant:ident: $what:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $(#[doc = $what] $mutant,)*
        }

        pub const ALL: &[Mutant] = &[$(Mutant::$mutant,)*];

        impl Mutant {
            pub fn what(self) -> &'static str {
                match self {
                    $(Mutant::$mutant => $what,)*
                }
            }
        }
    };
}

mutants! {
    ReplyBeforeSync: "promises and votes leave before the sync",
    PromiseNotRecorded: "a promise is not written to the log",
    BallotNotRecorded: "a ballot is used that a restart forgets",
    AcceptBelowPromise: "a value is accepted below the promise",
    AdoptLowerBallot: "phase 1 adopts the value of the lowest ballot",
    TakePartForWhole: "phase 1 takes the first part of a promise for all of it",
    SmallQuorum: "q1 + q2 = n: phase 1 is content with one acceptor fewer",
    CountForeignVotes: "votes of other ballots are counted",
    CommitForeignBallot: "a commit is taken for slots accepted in other ballots",
    ReadUnconfirmed: "a read is served without asking whether we still lead",
    ReadBeforeAdopted: "a read is served before the adopted values are chosen",
    VotesToldInSecret: "a leader's read does not see what others found to be chosen before it",
    VotesToldUnderLease: "an acceptor that granted a lease tells others of its votes",
    QuorumReadFromMinority: "a quorum read asks one acceptor",
    QuorumReadDoesNotWait: "a quorum read is served before what it must see is chosen and applied",
    DefiniteTooEarly: "a command that a leader may have is told to be certainly not done",
    ForgetSessions: "a restart forgets the sessions",
    ApplyTwice: "a restart applies its last slot twice",
    UnlockByAnyone: "a lock is renewed and freed without its token",
    TimeStandsStill: "nobody lets the log's time pass when a key is due",
    CorruptMemory: "a replica's memory changes by itself",
    OutvotedByOne: "a replica takes another's word for it that its state is wrong",
    IgnoreVerdict: "a replica that is outvoted keeps its state",
    FetchedWithoutLog: "a fetched state is put in place without what was applied behind it",
    SnapshotBeyondLog: "a snapshot is durable before the log says that its slots are chosen",
    TruncateBehindNewest: "the log forgets what only the newest snapshot holds",
    TellBelowDamage: "what damage left of the log behind a snapshot is told as chosen",
    TruncateOverDamage: "a segment that lost records goes by what is left in it",
    RestoreBeginsAnew: "a restored cluster does not know that the slots of its backup are over",
    JumpKeepsOldTail: "values accepted below an installed snapshot are taken for later slots",
    JumpKeepsOldLog: "a log tells what it held before it jumped as chosen",
    InstallForgetsSessions: "a snapshot is read without its sessions",
    ApplyTwiceAfterSnapshot: "the last slot of a snapshot is applied once more",
    SessionlessRetry: "a copy of a command is executed again",
    TrustTornTail: "damage in the middle of the log is taken for a torn tail",
    KeepTornTail: "what lies behind a torn tail is not cleared",
    RecoverWithoutSync: "recovery does not sync what it found",
    TrustPageCache: "recovery trusts what a failed sync left in the page cache",
    IgnoreFailedSync: "a failed sync counts as a sync",
    ConfigurationGovernsAtOnce: "a configuration governs from the next slot on",
    TwoChangesInFlight: "a configuration is changed while another waits to govern",
    VoteOnForgotten: "an acceptor answers a scout for slots in which it lost what it accepted",
    ForgetPromiseInDamage: "a promise that damage hit is forgotten",
    ElectUnconnected: "nodes compete and lead without reaching a quorum",
    ElectOverLeader: "a node competes although others still hear a leader",
    LeadUnfit: "a node competes and leads although its disk stalls",
}

impl Mutant {
    /// As in `--mutant reply-before-sync`.
    pub fn name(self) -> String {
        let mut name = String::new();
        for (i, letter) in format!("{self:?}").chars().enumerate() {
            if 0 < i && letter.is_uppercase() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }

    pub fn by_name(name: &str) -> Option<Mutant> {
        ALL.iter().copied().find(|mutant| mutant.name() == name)
    }
}

/// One more than the mutant's number; 0 for none.
#[cfg(feature = "mutants")]
static ON: AtomicUsize = AtomicUsize::new(0);

/// Switches this mutant on and all others off.
#[cfg(feature = "mutants")]
pub fn switch_on(mutant: Option<Mutant>) {
    ON.store(mutant.map_or(0, |mutant| mutant as usize + 1), Ordering::Relaxed);
}

#[cfg(feature = "mutants")]
pub fn is_on(mutant: Mutant) -> bool {
    ON.load(Ordering::Relaxed) == mutant as usize + 1
}

#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn is_on(_: Mutant) -> bool {
    false
}
