//! For the simulator only: marks that it must reach, and planted bugs that it must find.
//! Without the features `marks` and `mutants` every use of this vanishes from the build.

/// Says that the simulator must come by here, or by here under a condition.
macro_rules! sometimes {
    ($mark:ident) => {
        $crate::probe::reached($crate::probe::Mark::$mark)
    };
    ($condition:expr, $mark:ident) => {
        if $condition {
            sometimes!($mark);
        }
    };
}

/// Whether the simulator has planted this bug.
macro_rules! mutant {
    ($mutant:ident) => {
        $crate::probe::is_planted($crate::probe::Mutant::$mutant)
    };
}

/// A value, or the other one where the simulator has planted this bug.
macro_rules! planted {
    ($value:expr, $mutant:ident => $wrong:expr) => {
        if mutant!($mutant) { $wrong } else { $value }
    };
}

macro_rules! points {
    ($(#[$doc:meta])* $name:ident { $($(#[$point_doc:meta])* $point:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$point_doc])* $point,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[$name] = &[$($name::$point,)*];
        }
    };
}

points! {
    /// Rare places, each of which some run of a sweep has to reach.
    Mark {
        /// An event for a connection that is gone.
        StaleEvent,
        /// An event that says nothing new.
        OldNews,
        /// A connection has spent its budget for the turn.
        BudgetSpent,
        /// As many connections as a turn accepts.
        AcceptsSpent,
        /// accept(2) fails for lack of something.
        AcceptPaused,
        /// accept(2) fails, and the next call may be well.
        AcceptRetried,
        /// A client's leg cannot be registered.
        ClientUnregistered,
        /// More connections than there is room for: one that is no session has to go.
        CrowdedOut,
        /// More connections than there is room for, and none of them has to go.
        NoRoom,
        /// `max_connections` is reached.
        Full,
        /// `login_timeout` is over.
        LoginTimedOut,
        /// `idle_timeout` is over.
        IdleTimedOut,
        /// `idle_timeout` is looked at and not over yet.
        IdleRenewed,
        /// A client takes nothing of upstream's last words.
        FlushTimedOut,
        /// A client that has been told the last does not go.
        LingerTimedOut,
        /// A drain refuses a login under way.
        DrainRefused,
        /// A stop cuts an open pipe.
        StopCut,
        /// A look-up starts.
        LookupStarted,
        /// A second connection waits for the same look-up.
        LookupShared,
        /// The last look-up still serves.
        LookupReused,
        /// A look-up takes too long.
        LookupTimedOut,
        /// There is no such name.
        LookupFailed,
        /// A look-up is answered for a connection that no longer waits for it.
        LateAnswer,
        /// An attempt to connect cannot be started now.
        ConnectAgain,
        /// An attempt to connect takes too long.
        ConnectTimedOut,
        /// Upstream refuses the connection.
        ConnectRefused,
        /// The next address is tried.
        NextAddress,
        /// A read brings less than it could.
        ShortRead,
        /// A short read, and the end is known to stand behind it.
        ShortReadBeforeEnd,
        /// A write takes only a part.
        ShortWrite,
        /// EAGAIN from a read.
        ReadBlocked,
        /// EAGAIN from a write.
        WriteBlocked,
        /// EINTR from a read.
        ReadInterrupted,
        /// EINTR from a write.
        WriteInterrupted,
        /// A leg breaks while it is read.
        ReadFailed,
        /// The client's half-close is passed on.
        HalfCloseUp,
        /// Upstream's is.
        HalfCloseDown,
        /// What the client says for an upstream that is gone is thrown away.
        Discarded,
        /// A client is gone with upstream's words for it.
        Abandoned,
        /// The login's rest does not go out at once.
        RestBlocked,
        /// What a refused client still says is thrown away.
        RefusedDrained,
        /// Early bytes go through the pipe first.
        EarlyBytes,
        /// What upstream has said behind its confirmation goes through the pipe first.
        LateBytes,
        /// A client leaves before it has said who it is.
        LeftAtStartup,
        /// A client leaves before upstream is connected.
        LeftConnecting,
        /// A client leaves amid its authentication.
        LeftAuthenticating,
        /// A client leaves while its context is bound.
        LeftBinding,
        /// Upstream leaves amid a login.
        UpstreamLeft,
        /// Upstream refuses the login.
        UpstreamRefused,
        /// A CancelRequest is passed on.
        CancelPassed,
        /// An encryption request is declined.
        EncryptionDeclined,
        /// Multigres asks for the password.
        PasswordAsked,
        /// Upstream proves that it knows the password.
        ScramFinished,
        /// Something is wrong with the answer to the batch.
        NotBound,
        /// The role is privileged.
        Privileged,
        /// PostgreSQL accepts the seal of the context.
        SealFits,
        /// It does not.
        SealMisfits,
        /// The database is sealed, and there is no key.
        SealKeyMissing,
        /// The role may reach the keys.
        KeysReached,
        /// The guard says that something is open.
        GuardOpen,
        /// A verdict that is kept serves a login.
        VerdictKept,
        /// A refusal ends what was kept.
        VerdictDropped,
    }
}

points! {
    /// Bugs, one of which at a time can be planted.
    Mutant {
        /// The pipe opens when the batch has been sent.
        GateOpensEarly,
        /// Any row answers the batch.
        ConfirmationUnread,
        /// The session's defaults are not compared.
        DefaultsUnread,
        /// What set_config answers is not compared.
        BoundUnread,
        /// Values that begin like the right ones will do.
        ValuesBegin,
        /// current_user and session_user are not compared.
        UsersUnread,
        /// The number of privileged roles is not looked at.
        PrivilegesUnread,
        /// What PostgreSQL makes of the sealed context is not looked at.
        SealUnread,
        /// Whether the role reaches the keys of the seal is not looked at.
        ReachedUnread,
        /// A login gets the seal of the one before.
        SealOfPrevious,
        /// Without a key, a sealed database is not noticed.
        SealedUnnoticed,
        /// What the guard says is not looked at.
        GuardUnread,
        /// A bad verdict of the guard is kept as if it were good.
        BadVerdictKept,
        /// The verdict of one database serves another.
        VerdictOfAnyDatabase,
        /// The verdict of one role serves another.
        VerdictOfAnyRole,
        /// A login that is refused leaves the verdict as it is.
        RefusalKeepsVerdict,
        /// A failed attempt to connect leaves the verdicts as they are.
        FailureKeepsVerdict,
        /// A verdict is kept beyond its time.
        VerdictForEver,
        /// `is_superuser` is not looked at.
        SuperuserUnread,
        /// pg_backend_pid() is not compared.
        PidUnread,
        /// A session in a transaction will do.
        StatusUnread,
        /// Any number of rows will do.
        RowCountUnread,
        /// What upstream says before the binding is passed on at once.
        HeldLeaks,
        /// A refusal lets through what was held back.
        RefusalLeaks,
        /// Early bytes go upstream before the batch.
        EarlyBytesForwarded,
        /// Early bytes are lost.
        EarlyBytesLost,
        /// A login gets the identity of the one before.
        PreviousIdentity,
        /// A bypass role may be a tenant.
        BypassTenant,
        /// A client may set the context.
        ReservedAllowed,
        /// A parameter may come twice.
        DuplicateAllowed,
        /// Context and role come first in StartupMessage.
        ContextFirst,
        /// Upstream declines TLS, and the login goes on although it was demanded.
        DeclinedTlsIgnored,
        /// Unencrypted bytes behind upstream's answer to SSLRequest are not noticed.
        StuffedAnswerTaken,
        /// Unencrypted bytes behind a client's SSLRequest are taken for its handshake.
        StuffedRequestTaken,
        /// A client may come without TLS although it is demanded.
        ClearLoginAllowed,
        /// What ALPN has agreed on is not looked at.
        AlpnUnread,
        /// Any certificate of upstream's will do.
        CertificateUnread,
        /// A certificate for another name will do.
        NameUnread,
        /// The first records of a client that begins with TLS are lost.
        EarlyRecordsLost,
        /// TLS does not say that the end is the end.
        EndUnsaid,
        /// TLS says of a cut that it is the end.
        CutSaidAsEnd,
        /// What has been given up ends as if all had been said.
        GivenUpSaidAsEnd,
        /// An end that TLS has not said is taken for the end.
        TruncationUnseen,
        /// A leg that is broken looks as if it had ended.
        BrokenLegEnds,
        /// Plaintext is encrypted although the records before it have not gone.
        CiphertextUnbounded,
        /// What is decrypted and has not been read is forgotten until more comes.
        PlaintextForgotten,
        /// A password is asked for where others can listen.
        CleartextAnywhere,
        /// Upstream need not prove that it knows the password.
        ProofUnread,
        /// Upstream need not wait for the reply.
        ReplyNotAwaited,
        /// A client may say anything in place of its password.
        AnyReply,
        /// A CancelRequest goes out with the key of the one before.
        PreviousCancel,
        /// A CancelRequest is answered like a login.
        CancelAnswered,
        /// The connection is closed at once behind the FATAL.
        RefusalCloses,
        /// Nothing is shut down behind the FATAL.
        RefusalStaysOpen,
        /// Upstream is kept when a login is refused.
        RefusedKeepsUpstream,
        /// A login goes on although its client has gone.
        GoneClientKept,
        /// Upstream's end amid a login is not seen.
        UpstreamEndUnseen,
        /// A short read before the end is taken for the last.
        LostReadEdge,
        /// Room to write is not noted.
        LostWriteEdge,
        /// EINTR breaks a leg.
        InterruptBreaks,
        /// A partial write is taken as full.
        PartialWriteFull,
        /// A buffer that was written in part is given back.
        BufferDropped,
        /// A half-close is not passed on.
        HalfCloseDropped,
        /// A half-close is passed on before the last bytes.
        HalfCloseEarly,
        /// The end of one direction ends both.
        EndEndsBoth,
        /// An error of upstream's ends both directions at once.
        ErrorEndsBoth,
        /// EMFILE: accepting goes on with the next event, which does not come.
        AcceptGivesUp,
        /// A turn accepts all there are.
        AcceptsUnbounded,
        /// A turn moves all there is.
        BudgetIgnored,
        /// A connection whose budget is spent is not queued again.
        BudgetForgets,
        /// A connection that was queued once is never queued again.
        QueuedForGood,
        /// The loop does not sleep.
        NeverSleeps,
        /// The loop sleeps until an event, whatever the deadlines.
        Oversleeps,
        /// A deadline stays when its connection goes.
        TimerStays,
        /// There is no deadline for a login.
        LoginUnbounded,
        /// There is none for a client that has been refused.
        LingerUnbounded,
        /// There is none for a client that takes nothing of upstream's last words.
        FlushUnbounded,
        /// An idle timeout counts from the opening of the pipe.
        IdleNotRenewed,
        /// Buffers stay lent when their connection goes.
        BufferKept,
        /// A look-up that is answered late dials all the same.
        LateAnswerDials,
        /// Only the first address is tried.
        FirstAddressOnly,
        /// A client that has still to take upstream's last words is closed for another.
        LastWordsCrowdedOut,
        /// Connections are accepted however many there are.
        RoomIgnored,
        /// `max_connections` does not hold.
        NeverFull,
        /// A session that ends is still counted.
        StillCounted,
        /// A login that is refused is counted until its client goes.
        RefusedCounted,
        /// A drain ends the sessions.
        DrainCuts,
        /// A drain lets logins go on.
        DrainForgetsLogins,
    }
}

/// Counts a mark.
#[cfg(not(feature = "marks"))]
#[inline(always)]
pub(crate) fn reached(_: Mark) {}

/// Whether a bug is planted.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) fn is_planted(_: Mutant) -> bool {
    false
}

/// In place of a value the one that was given here before, if any: never without the feature.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) fn previous<T>(_: Mutant, value: T) -> T {
    value
}

#[cfg(feature = "marks")]
mod marks {
    use std::cell::RefCell;

    use super::Mark;

    thread_local! {
        static COUNTS: RefCell<Vec<u64>> = RefCell::new(vec![0; Mark::ALL.len()]);
    }

    pub(crate) fn reached(mark: Mark) {
        COUNTS.with_borrow_mut(|counts| counts[mark as usize] += 1);
    }

    /// How often each mark has been reached in this thread since the last call.
    pub fn take_marks() -> Vec<(Mark, u64)> {
        let counts = COUNTS.replace(vec![0; Mark::ALL.len()]);
        Mark::ALL.iter().copied().zip(counts).collect()
    }
}

#[cfg(feature = "marks")]
pub(crate) use marks::reached;
#[cfg(feature = "marks")]
pub use marks::take_marks;

#[cfg(feature = "mutants")]
mod mutants {
    use std::any::Any;
    use std::cell::{Cell, RefCell};

    use super::Mutant;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
        static PREVIOUS: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
    }

    /// Plants a bug in this thread, in place of the one before.
    pub fn plant(mutant: Option<Mutant>) {
        PLANTED.set(mutant);
        PREVIOUS.take();
    }

    pub(crate) fn is_planted(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }

    pub(crate) fn previous<T: Clone + 'static>(mutant: Mutant, value: T) -> T {
        if !is_planted(mutant) {
            return value;
        }
        let before = PREVIOUS.replace(Some(Box::new(value.clone())));
        before.and_then(|it| it.downcast().ok()).map_or(value, |it| *it)
    }
}

#[cfg(feature = "mutants")]
pub use mutants::plant;
#[cfg(feature = "mutants")]
pub(crate) use mutants::{is_planted, previous};
