%% @private
%% Tells sessions that something was published, and how the lists look now.
%%
%% An export runs in its caller's process, which may be another node's, and sends no message to anybody; so this process
%% looks now and then whether there was one, for as long as there are subscribers. Each of them is woken once, and not
%% again until it has said that it is about to look: however slow it is, there is at most one message for it, and what
%% it finds when it looks is the newest. Updates are thus coalesced by whoever is slow, and lost by nobody.
-module(erlmcp_shm_changes).

-behaviour(gen_server).

-export([subscribe/0, seen/1, lists/0, version/1]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([subscription/0, lists/0]).

-opaque subscription() :: atomics:atomics_ref().

-type lists() :: #{resource | tool | prompt | capability => non_neg_integer()}.
%% A number that is another one once the list is.

%% How often that is looked at, and how many times as long as the lists took to look at they are left alone.
-define(POLL_MS, 20).
-define(REST, 10).

-record(state, {
    subscribers = #{} :: #{pid() => subscription()},
    changes :: term(),
    %% The changes that the lists were looked at, and when they may be again.
    listed :: term(),
    rest_until = erlang:monotonic_time() :: integer()
}).

%% @doc The caller gets the message `erlmcp_shm_changed' once something was published.
-spec subscribe() -> subscription().
subscribe() ->
    case gen_server:start({local, ?MODULE}, ?MODULE, [], []) of
        {ok, _} -> ok;
        {error, {already_started, _}} -> ok
    end,
    gen_server:call(?MODULE, subscribe, infinity).

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

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    ?MODULE = ets:new(?MODULE, [named_table, {read_concurrency, true}]),
    _ = erlang:send_after(?POLL_MS, self(), look),
    {ok, look_at_lists(#state{changes = erlmcp_shm_store:changes()})}.

%% @private
-spec handle_call(subscribe, gen_server:from(), #state{}) -> {reply, subscription(), #state{}}.
handle_call(subscribe, {Pid, _}, Before) ->
    %% What was published before is no news to the new one.
    #state{subscribers = Subscribers} = State = look(Before),
    case Subscribers of
        #{Pid := Subscription} ->
            {reply, Subscription, State};
        _ ->
            _ = monitor(process, Pid),
            Subscription = atomics:new(1, []),
            {reply, Subscription, State#state{subscribers = Subscribers#{Pid => Subscription}}}
    end.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(look, #state{subscribers = Subscribers} = State) ->
    _ = erlang:send_after(?POLL_MS, self(), look),
    case map_size(Subscribers) of
        0 -> {noreply, State};
        _ -> {noreply, look(State)}
    end;
handle_info({'DOWN', _, process, Pid, _}, #state{subscribers = Subscribers} = State) ->
    {noreply, State#state{subscribers = maps:remove(Pid, Subscribers)}};
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

wake(#state{subscribers = Subscribers} = State) ->
    maps:foreach(
        fun(Pid, Subscription) ->
            case atomics:compare_exchange(Subscription, 1, 0, 1) of
                ok -> Pid ! erlmcp_shm_changed;
                _ -> ok
            end
        end,
        Subscribers
    ),
    State.

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
