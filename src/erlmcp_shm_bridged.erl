%% @private
%% One server as the bridge keeps it: what it has, what of that is published, and why the rest is not. Called by the
%% bridge's process only.
%%
%% Nothing here waits for the server or for its functions. A *worker* finds the server, taps it and looks at all of it;
%% *evaluators* call the functions of resources (see erlmcp_shm_evaluators).
-module(erlmcp_shm_bridged).

-include_lib("kernel/include/logger.hrl").

-export([new/2, stop/2, due/2, worked/3, tapped/3, ended/3, down/3, late/3, sync/2, info/1, is_down/1]).

-export_type([bridged/0]).

-record(bridged, {
    options :: erlmcp_shm_bridge_config:server(),
    table :: erlmcp_shm_tap:table(),
    tap :: erlmcp_shm_tap:tap(),
    tap_id :: reference(),
    state = looking :: looking | attached | down,
    pid = none :: pid() | none,
    monitor = none :: reference() | none,
    %% The worker that is under way; what was told while it was, which it may not have seen; whether another has to
    %% follow.
    worker = none :: pid() | none,
    touched = #{} :: #{erlmcp_shm_erlmcp:item() => []},
    again = false :: boolean(),
    timer = none :: reference() | none,
    %% Why looking failed the last time.
    failing = none :: term(),
    %% Whether the entries of an earlier run have been looked for, and until when what the server does not have is
    %% spared: it may just have been started, and be adding still.
    learned = false :: boolean(),
    spared_until = 0 :: integer(),
    known = #{} :: erlmcp_shm_erlmcp:listing(),
    published = #{} :: #{erlmcp_shm_bridge_store:place() => []},
    troubles = #{} :: #{erlmcp_shm_erlmcp:item() => term()},
    evaluators = erlmcp_shm_evaluators:new() :: erlmcp_shm_evaluators:evaluators(),
    waiting = [] :: [gen_server:from()]
}).

-opaque bridged() :: #bridged{}.

-define(LOOK_AGAIN_MS, 1000).
-define(SOON_MS, 50).
%% Looking takes the server a hundredth of its time at most.
-define(REST, 100).

%%% Its life

-spec new(erlmcp_shm_bridge_config:server(), erlmcp_shm_tap:table()) -> bridged().
new(Options, Table) ->
    {Id, Tap} = erlmcp_shm_tap:open(Table),
    look_at_all(#bridged{options = Options, table = Table, tap = Tap, tap_id = Id}).

%% @doc Lets go of the server; nothing is told by it any more, and nothing is left in it once this and `Removed' have
%% returned. `withdraw' is for a server that is no longer looked after.
-spec stop(keep | withdraw, bridged()) -> Removed :: fun(() -> ok).
stop(What, #bridged{table = Table, tap = Tap, pid = Pid} = B) ->
    ok = kill(B),
    ok = erlmcp_shm_tap:close(Table, Tap),
    _ = [withdraw_all(B) || What =:= withdraw],
    _ = answer({error, not_attached}, B),
    fun() ->
        case Pid of
            none -> ok;
            _ -> erlmcp_shm_tap:remove(Pid, Tap)
        end
    end.

%% @doc The server's process ended.
-spec down(reference(), term(), bridged()) -> bridged() | not_mine.
down(Monitor, Reason, #bridged{monitor = Monitor, table = Table, tap = Tap, options = Options} = B) ->
    #{name := Name, on_down := OnDown} = Options,
    ?LOG_NOTICE(#{what => bridge, server => Name, ended => Reason}),
    ok = kill(B),
    %% The next process has a tap of its own: what is heard late of this one says nothing about that.
    ok = erlmcp_shm_tap:close(Table, Tap),
    {NextId, NextTap} = erlmcp_shm_tap:open(Table),
    Down = B#bridged{
        state = down,
        pid = none,
        monitor = none,
        tap = NextTap,
        tap_id = NextId,
        worker = none,
        known = #{},
        troubles = #{},
        evaluators = erlmcp_shm_evaluators:new()
    },
    case OnDown of
        keep -> later(?SOON_MS, Down);
        withdraw -> later(?SOON_MS, withdraw_all(Down))
    end;
down(_, _, _) ->
    not_mine.

kill(#bridged{worker = Worker, evaluators = Evaluators}) ->
    _ = [exit(Worker, kill) || is_pid(Worker)],
    erlmcp_shm_evaluators:kill(Evaluators).

-spec is_down(bridged()) -> boolean().
is_down(#bridged{state = State}) ->
    State =/= attached.

-spec info(bridged()) -> map().
info(#bridged{options = #{server := Server}, state = State, pid = Pid, published = Published, troubles = Troubles}) ->
    #{
        server => Server,
        state => State,
        pid => Pid,
        published => maps:size(Published),
        refused => [{Kind, Key, Reason} || {{Kind, Key}, Reason} <- lists:sort(maps:to_list(Troubles))]
    }.

%%% Looking at all of it

%% @doc A timer of `later/2' has run out.
-spec due(reference(), bridged()) -> bridged().
due(Timer, #bridged{timer = Timer, worker = none} = B) ->
    look_at_all(B#bridged{timer = none});
%% Being looked at, it was due. Another look right after this one would follow for ever, where an interval is short.
due(Timer, #bridged{timer = Timer} = B) ->
    B#bridged{timer = none};
due(_, B) ->
    B.

later(Ms, #bridged{timer = Before, options = #{name := Name}} = B) ->
    _ = [erlang:cancel_timer(Before) || is_reference(Before)],
    B#bridged{timer = erlang:start_timer(Ms, self(), {due, Name})}.

%% @doc Answers the caller once what the server has now is published.
-spec sync(gen_server:from(), bridged()) -> bridged().
sync(From, #bridged{waiting = Waiting} = B) ->
    look_at_all(B#bridged{waiting = [From | Waiting]}).

look_at_all(#bridged{worker = none, tap = Tap, pid = Pid, options = Options, learned = Learned} = B) ->
    ok = erlmcp_shm_tap:relisting(Tap),
    Bridge = self(),
    #{server := Server, name := Name} = Options,
    Worker = spawn_link(fun() -> Bridge ! {worked, Name, self(), work(Server, Pid, Tap, Name, Learned)} end),
    B#bridged{worker = Worker, touched = #{}, again = false};
look_at_all(B) ->
    B#bridged{again = true}.

%%% The worker. It waits for as long as the server takes to answer; so there is one at a time, and no more than one
%%% question of ours in a busy server's mailbox.

work(Server, Former, Tap, Name, Learned) ->
    case {erlmcp_shm_erlmcp:find(Server), Former} of
        {{ok, Pid}, _} -> look(Pid, Tap, Name, Learned);
        %% The registry forgot it, or does not answer.
        {error, Pid} when is_pid(Pid) -> look(Pid, Tap, Name, Learned);
        {error, none} -> {error, not_found}
    end.

look(Pid, Tap, Name, Learned) ->
    Start = erlang:monotonic_time(millisecond),
    try
        ok = erlmcp_shm_tap:install(Pid, Tap),
        State = sys:get_state(Pid, infinity),
        Took = erlang:monotonic_time(millisecond) - Start,
        case erlmcp_shm_erlmcp:listing(State) of
            {ok, Listing} -> {ok, Pid, Listing, Learned orelse erlmcp_shm_bridge_store:published_by(Name), Took};
            {error, _} = Error -> Error
        end
    catch
        exit:{Reason, {sys, _, _}} -> {error, Reason};
        _:Reason -> {error, Reason}
    end.

%% @doc The worker is done.
-spec worked(pid(), {ok, pid(), map(), boolean() | [erlmcp_shm_bridge_store:place()], non_neg_integer()} | {error, term()}, bridged()) -> bridged().
worked(Worker, {ok, Pid, Listing, Learned, Took}, #bridged{worker = Worker, options = Options} = B) ->
    Attached = reconcile(Listing, learned(Learned, attached(Pid, B#bridged{worker = none}))),
    #{reconcile_interval := Interval} = Options,
    Next =
        case lists:member(not_started, maps:values(Attached#bridged.troubles)) of
            true -> ?LOOK_AGAIN_MS;
            false -> max(Interval, min(?REST * Took, 10 * Interval))
        end,
    settled(followed(later(Next, Attached#bridged{failing = none})));
worked(Worker, {error, Reason}, #bridged{worker = Worker, failing = Before, options = #{name := Name}} = B) ->
    %% Said once. That it is not there, or no more, is nothing to warn of.
    _ = [
        ?LOG_WARNING(#{what => bridge, server => Name, trouble => Reason})
     || Reason =/= Before, not lists:member(Reason, [not_found, noproc, normal, shutdown])
    ],
    followed(look_again(answer({error, Reason}, B#bridged{worker = none, failing = Reason})));
worked(_, _, B) ->
    B.

%% A name may be borne by another process some day; a process does not come back.
look_again(#bridged{options = #{server := Pid}} = B) when is_pid(Pid) ->
    case is_process_alive(Pid) of
        true -> later(?LOOK_AGAIN_MS, B);
        false -> B
    end;
look_again(B) ->
    later(?LOOK_AGAIN_MS, B).

followed(#bridged{again = true} = B) -> look_at_all(B);
followed(B) -> B.

attached(Pid, #bridged{pid = Pid} = B) ->
    B;
attached(Pid, #bridged{pid = Former, monitor = Monitor, tap = Tap, options = Options} = B) ->
    #{name := Name, on_down := OnDown, reconcile_interval := Interval} = Options,
    %% Another bears the name now.
    _ = [demonitor(Monitor, [flush]) || is_reference(Monitor)],
    _ = [spawn(fun() -> erlmcp_shm_tap:remove(Former, Tap) end) || is_pid(Former)],
    ?LOG_NOTICE(#{what => bridge, server => Name, attached => Pid}),
    Spared =
        case OnDown of
            keep -> erlang:monotonic_time(millisecond) + Interval;
            withdraw -> erlang:monotonic_time(millisecond)
        end,
    B#bridged{state = attached, pid = Pid, monitor = monitor(process, Pid), spared_until = Spared}.

learned(Places, #bridged{published = Published} = B) when is_list(Places) ->
    B#bridged{learned = true, published = maps:merge(Published, maps:from_keys(Places, []))};
learned(_, B) ->
    B.

%% What was told meanwhile is left alone: the listing may be older. Who waits wants all of it to be true.
reconcile(Listing, #bridged{touched = Touched, known = Known, published = Published} = B) ->
    #bridged{spared_until = SparedUntil, waiting = Waiting} = B,
    Listed = maps:without(maps:keys(Touched), Listing),
    Gone = maps:keys(maps:without(maps:keys(Listing), maps:without(maps:keys(Touched), Known))),
    Left = [place(Item, B) || Item <- maps:keys(maps:merge(Listing, Touched))],
    Stale = maps:keys(maps:without(Left, Published)),
    Listened = lists:foldl(fun listed/2, B, lists:sort(maps:to_list(Listed))),
    case Waiting =/= [] orelse erlang:monotonic_time(millisecond) >= SparedUntil of
        false -> Listened;
        true -> lists:foldl(fun withdraw/2, lists:foldl(fun forget/2, Listened, Gone), Stale)
    end.

listed({Item, Entry}, #bridged{known = Known, troubles = Troubles} = B) ->
    case {Known, Troubles} of
        %% A function is not called again because it failed.
        {#{Item := Entry}, #{Item := {not_evaluated, _}}} -> B;
        {#{Item := Entry}, #{Item := _}} -> publish(Item, Entry, B);
        {#{Item := Entry}, _} -> unless_published(Item, Entry, B);
        _ -> publish(Item, Entry, B)
    end.

unless_published(Item, Entry, #bridged{evaluators = Evaluators} = B) ->
    case wanted(Item, B) andalso not erlmcp_shm_evaluators:is_under_way(Item, Evaluators) andalso owner(Item, B) =/= us of
        true -> publish(Item, Entry, B);
        false -> B
    end.

%%% What the tap tells

-spec tapped(reference(), term(), bridged()) -> bridged() | not_mine.
tapped(Id, What, #bridged{tap_id = Id, tap = Tap} = B) ->
    case What of
        relist ->
            look_at_all(B);
        {changed, Item, Entry} ->
            ok = erlmcp_shm_tap:heard(Tap),
            settled(changed(Item, Entry, touched(Item, B)))
    end;
tapped(_, _, _) ->
    not_mine.

touched(_Item, #bridged{worker = none} = B) -> B;
touched(Item, #bridged{touched = Touched} = B) -> B#bridged{touched = Touched#{Item => []}}.

changed(Item, absent, B) -> withdraw(place(Item, B), forget(Item, B));
changed(Item, Entry, B) -> publish(Item, Entry, B).

forget(Item, #bridged{known = Known, troubles = Troubles, evaluators = Evaluators} = B) ->
    B#bridged{
        known = maps:remove(Item, Known),
        troubles = maps:remove(Item, Troubles),
        evaluators = erlmcp_shm_evaluators:forget(Item, Evaluators)
    }.

%%% Publishing

publish(Item, Entry, #bridged{known = Known} = B) ->
    case wanted(Item, B) of
        true -> admitted(Item, Entry, B#bridged{known = Known#{Item => Entry}});
        false -> B
    end.

wanted({Kind, Key}, #bridged{options = #{kinds := Kinds, except := Except}}) ->
    lists:member(Kind, Kinds) andalso not lists:any(fun(Pattern) -> matches(Pattern, Key) end, Except).

matches(Pattern, Key) ->
    Length = byte_size(Pattern) - 1,
    case Pattern of
        <<Prefix:Length/binary, "*">> -> binary:longest_common_prefix([Prefix, Key]) =:= Length;
        _ -> Pattern =:= Key
    end.

admitted({Kind, _} = Item, Entry, B) ->
    case owner(Item, B) of
        Whose when Whose =:= nobody; Whose =:= us ->
            case Kind of
                resource -> evaluate(Item, B);
                _ -> put_it(Item, exported(Kind, Entry), B)
            end;
        {error, Reason} ->
            trouble(Item, Reason, B);
        Whose ->
            trouble(Item, {taken, Whose}, B)
    end.

%% What a server holds may be anything, whatever erlmcp says of it.
exported(Kind, Entry) ->
    try
        {ok, erlmcp_shm_erlmcp:export(Kind, Entry)}
    catch
        error:Reason -> {error, {not_exported, Reason}}
    end.

put_it(Item, {error, Reason}, B) ->
    not_published(Item, Reason, B);
put_it(Item, {ok, {Data, Metadata}}, #bridged{options = #{name := Name}, published = Published, troubles = Troubles} = B) ->
    Place = place(Item, B),
    case erlmcp_shm_bridge_store:put(Name, Place, Data, Metadata) of
        ok -> B#bridged{published = Published#{Place => []}, troubles = maps:remove(Item, Troubles)};
        {error, Reason} -> not_published(Item, Reason, B)
    end.

%% What was published of it before is not what the server has now.
not_published(Item, Reason, B) ->
    trouble(Item, Reason, withdraw(place(Item, B), B)).

%% Where an item is published: under its name, with a prefix maybe.
place({Kind, Key}, #bridged{options = #{prefix := Prefix}}) ->
    {Kind, <<(maps:get(Kind, Prefix))/binary, Key/binary>>}.

owner(Item, #bridged{options = #{name := Name}} = B) ->
    erlmcp_shm_bridge_store:owner(Name, place(Item, B)).

withdraw_all(#bridged{published = Published} = B) ->
    lists:foldl(fun withdraw/2, B, maps:keys(Published)).

%% One that could not be withdrawn stays in mind for the next time.
withdraw(Place, #bridged{published = Published, options = #{name := Name}} = B) ->
    case erlmcp_shm_bridge_store:withdraw(Name, Place) of
        ok -> B#bridged{published = maps:remove(Place, Published)};
        {error, _} -> B
    end.

%% Said once, and again when it is another.
trouble({Kind, Key} = Item, Reason, #bridged{troubles = Troubles, options = #{name := Name}} = B) ->
    Troubled = B#bridged{troubles = Troubles#{Item => Reason}},
    case Troubles of
        %% The exporter's end was said already, and this would be said of everything. It should be back soon.
        _ when Reason =:= not_started ->
            soon(Troubled);
        #{Item := Reason} ->
            Troubled;
        _ ->
            ?LOG_WARNING(#{what => bridge, server => Name, kind => Kind, key => Key, trouble => Reason}),
            Troubled
    end.

soon(#bridged{timer = Timer} = B) ->
    case is_reference(Timer) andalso erlang:read_timer(Timer) of
        Ms when is_integer(Ms), Ms =< ?LOOK_AGAIN_MS -> B;
        _ -> later(?LOOK_AGAIN_MS, B)
    end.

%%% Evaluators

evaluate(Item, #bridged{evaluators = Evaluators} = B) ->
    next(B#bridged{evaluators = erlmcp_shm_evaluators:add(Item, Evaluators)}).

next(#bridged{known = Known, evaluators = Evaluators, options = #{evaluate_timeout := Ms, name := Name}} = B) ->
    TimeUp = fun(Pid) -> {late, Name, Pid} end,
    B#bridged{evaluators = erlmcp_shm_evaluators:start(Known, {Ms, TimeUp}, Evaluators)}.

%% @doc One has had its time.
-spec late(reference(), pid(), bridged()) -> bridged().
late(Timer, Pid, #bridged{evaluators = Evaluators} = B) ->
    ok = erlmcp_shm_evaluators:late(Timer, Pid, Evaluators),
    B.

%% @doc A linked process ended.
-spec ended(pid(), term(), bridged()) -> bridged() | not_mine.
ended(Worker, Reason, #bridged{worker = Worker} = B) ->
    worked(Worker, {error, Reason}, B);
ended(Pid, Reason, #bridged{evaluators = Evaluators} = B) ->
    case erlmcp_shm_evaluators:ended({Pid, Reason}, Evaluators) of
        {Item, Entry, Outcome, Left} -> settled(next(outcome(Item, Entry, Outcome, B#bridged{evaluators = Left})));
        error -> not_mine
    end.

%% Of a resource that is gone meanwhile, or that will be evaluated anew, it is nothing to anybody.
outcome(Item, Entry, Outcome, #bridged{known = Known, evaluators = Evaluators} = B) ->
    case is_map_key(Item, Known) andalso not erlmcp_shm_evaluators:is_waiting(Item, Evaluators) of
        true -> evaluated(Item, Entry, Outcome, B);
        false -> B
    end.

evaluated(Item, Entry, {ok, Data, Type}, B) ->
    case owner(Item, B) of
        Whose when Whose =:= nobody; Whose =:= us ->
            case exported(resource, Entry) of
                {ok, {_, Metadata}} ->
                    put_it(Item, {ok, {Data, maps:merge(Metadata, erlmcp_shm_erlmcp:content_type(Type))}}, B);
                {error, _} = Error ->
                    put_it(Item, Error, B)
            end;
        {error, Reason} ->
            trouble(Item, Reason, B);
        Whose ->
            trouble(Item, {taken, Whose}, B)
    end;
evaluated(Item, _, {error, Reason}, B) ->
    not_published(Item, {not_evaluated, Reason}, B).

%%% Who waits

settled(#bridged{worker = none, again = false, waiting = [_ | _], evaluators = Evaluators, troubles = Troubles} = B) ->
    case {erlmcp_shm_evaluators:is_idle(Evaluators), maps:size(Troubles)} of
        {false, _} -> B;
        {true, 0} -> answer(ok, B);
        {true, _} -> answer({error, {refused, maps:get(refused, info(B))}}, B)
    end;
settled(B) ->
    B.

answer(Reply, #bridged{waiting = Waiting} = B) ->
    _ = [gen_server:reply(From, Reply) || From <- Waiting],
    B#bridged{waiting = []}.
