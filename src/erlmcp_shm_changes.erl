%% @private
%% Tells sessions that something was published, and how the lists look now.
%%
%% An export runs in its caller's process, which may be another node's, and sends no message to anybody; so this process
%% looks now and then whether there was one, for as long as there are subscribers. Each of them is woken once, and not
%% again until it has said that it is about to look: however slow it is, there is at most one message for it, and what
%% it finds when it looks is the newest. Updates are thus coalesced by whoever is slow, and lost by nobody.
%%
%% The table of subscribers belongs to the supervisor, so the next process has them should this one crash; and since nobody
%% knows what was published meanwhile, it begins by waking all.
-module(erlmcp_shm_changes).

-behaviour(gen_server).

-export([new/0, start_link/0, subscribe/0, seen/1, lists/0, version/1]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([subscription/0, lists/0]).

-opaque subscription() :: atomics:atomics_ref().

-type lists() :: #{resource | tool | prompt | capability => non_neg_integer()}.
%% A number that is another one once the list is.

%% How often that is looked at, and how many times as long as the lists took to look at they are left alone.
-define(POLL_MS, 20).
-define(REST, 10).
-define(TRIES, 10).

-record(state, {
    changes :: term(),
    %% The changes that the lists were looked at, and when they may be again.
    listed :: term(),
    rest_until = erlang:monotonic_time() :: integer()
}).

%% @doc The caller gets the message `erlmcp_shm_changed' once something was published.
-spec subscribe() -> subscription().
subscribe() ->
    subscribe(?TRIES).

%% Should it crash over it, then there is another one soon.
subscribe(Tries) ->
    ok = erlmcp_shm_services:ensure(?MODULE),
    try
        gen_server:call(?MODULE, subscribe, infinity)
    catch
        exit:_ when Tries > 1 -> subscribe(Tries - 1)
    end.

%% @doc The caller is about to look, and wants to hear of what is published from now on.
-spec seen(subscription()) -> ok.
seen(Subscription) ->
    atomics:put(Subscription, 1, 0).

%% @doc How the lists looked a moment ago; empty while nothing is published.
-spec lists() -> lists().
lists() ->
    try ets:lookup(?MODULE, lists) of
        [{lists, Lists}] -> Lists;
        [] -> #{}
    catch
        error:badarg -> #{}
    end.

%% @doc The version of a resource as it is now.
-spec version(Uri :: binary()) -> {ok, term()} | {error, term()}.
version(Uri) ->
    erlmcp_shm_store:version(resource, Uri).

%% @doc The table, which belongs to the calling process: the lists, and the subscription of each subscriber.
-spec new() -> ok.
new() ->
    ?MODULE = ets:new(?MODULE, [named_table, public, {read_concurrency, true}]),
    ok.

%% @doc For its supervisor.
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case gen_server:start_link({local, ?MODULE}, ?MODULE, [], []) of
        {ok, _} = Ok -> Ok;
        {error, _} = Error -> Error
    end.

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    _ = erlang:send_after(?POLL_MS, self(), look),
    State = look_at_lists(#state{changes = erlmcp_shm_store:changes()}),
    %% Whether a subscriber was woken before or not: the former process may have ended before it sent what it had noted.
    lists:foreach(
        fun({Pid, Subscription}) ->
            _ = monitor(process, Pid),
            ok = atomics:put(Subscription, 1, 1),
            Pid ! erlmcp_shm_changed
        end,
        subscribers()
    ),
    {ok, State}.

%% @private
-spec handle_call(subscribe, gen_server:from(), #state{}) -> {reply, subscription(), #state{}}.
handle_call(subscribe, {Pid, _}, Before) ->
    %% What was published before is no news to the new one.
    State = look(Before),
    case ets:lookup(?MODULE, Pid) of
        [{_, Subscription}] ->
            {reply, Subscription, State};
        [] ->
            _ = monitor(process, Pid),
            Subscription = atomics:new(1, []),
            true = ets:insert(?MODULE, {Pid, Subscription}),
            {reply, Subscription, State}
    end.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(look, State) ->
    _ = erlang:send_after(?POLL_MS, self(), look),
    %% Beside the lists.
    case ets:info(?MODULE, size) of
        N when N > 1 -> {noreply, look(State)};
        _ -> {noreply, State}
    end;
handle_info({'DOWN', _, process, Pid, _}, State) ->
    true = ets:delete(?MODULE, Pid),
    {noreply, State};
handle_info(_Message, State) ->
    {noreply, State}.

look(#state{changes = Before, listed = Listed} = State) ->
    case erlmcp_shm_store:changes() of
        Before when Before =:= Listed -> State;
        Before -> wake_if_listed(look_at_lists(State));
        Now -> wake(look_at_lists(State#state{changes = Now}))
    end.

wake_if_listed(#state{changes = Changes, listed = Changes} = State) -> wake(State);
wake_if_listed(State) -> State.

wake(State) ->
    lists:foreach(
        fun({Pid, Subscription}) ->
            case atomics:compare_exchange(Subscription, 1, 0, 1) of
                ok -> Pid ! erlmcp_shm_changed;
                _ -> ok
            end
        end,
        subscribers()
    ),
    State.

subscribers() ->
    ets:select(?MODULE, [{{'$1', '_'}, [{is_pid, '$1'}], ['$_']}]).

%% The whole index is walked over for this: in a large store that is published to all the time, less often.
look_at_lists(#state{changes = Changes, rest_until = Until} = State) ->
    Start = erlang:monotonic_time(),
    case Start >= Until of
        true ->
            true = ets:insert(?MODULE, {lists, digest()}),
            End = erlang:monotonic_time(),
            State#state{listed = Changes, rest_until = End + ?REST * (End - Start)};
        false ->
            State
    end.

%% A file that cannot be read at the moment, for whatever reason, is no news of what is in it.
digest() ->
    case erlmcp_shm_store:digest() of
        {ok, Lists} -> Lists;
        {error, Nothing} when Nothing =:= not_started; Nothing =:= not_found -> #{};
        {error, _} -> lists()
    end.
