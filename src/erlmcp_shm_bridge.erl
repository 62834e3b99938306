%% @doc Publishes what erlmcp servers have: their resources, tool schemas and prompts, as they are added, changed and
%% deleted.
%%
%% A server is found by its name in erlmcp's registry (or of a registered process), or given as a process. The bridge
%% listens to what is asked of it (see {@link sys:install/2}) and looks at all of it now and then, at the latest every
%% `reconcile_interval' milliseconds. What that costs the server is the copy of its state when it is looked at, and
%% microseconds for each entry that is added; nothing the bridge does, or its end, whatever the reason, disturbs it otherwise.
%%
%% == What is published ==
%%
%% Resources: their functions are called by the bridge, each in a process of its own and for `evaluate_timeout' at most,
%% when they are added and whenever `notify_resource_updated' is said of them. One that fails is not
%% published, and asked for at the server then. A resource that is another at every read should be named in `except'.
%%
%% Tools: the schema, or that of any object. Prompts: their arguments, and no messages, for those the server's function
%% makes: readers list such a prompt, and ask the server for it. Templates of resources are not published.
%%
%% Each entry has the name of its server in its metadata, as `erlmcp_server'. What somebody else has published, another
%% server or a direct export, is left alone: it is refused with a log entry, shows in {@link info/0} and is the
%% answer of {@link sync/1}. A `prefix' keeps two servers apart.
%%
%% == When a server ends ==
%%
%% With `on_down => keep' its entries remain; with `withdraw' they are withdrawn. When a process bears its name again,
%% it is attached to, and what it does not have is withdrawn after a `reconcile_interval': it may be adding still what
%% its predecessor had. The end of the bridge leaves the entries; its next start knows them again. After {@link
%% detach/1} they are withdrawn, and it is left alone until it is attached again.
-module(erlmcp_shm_bridge).

-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/1, child_spec/1, attach/1, detach/1, sync/1, info/0]).
-export([forget/0]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([options/0, server_options/0, refused/0]).

-type options() :: #{
    enabled => boolean(),
    %% `all' that the registry lists, or those that are named.
    servers => all | [server_options()],
    reconcile_interval => pos_integer(),
    on_down => keep | withdraw,
    kinds => [resource | tool | prompt],
    except => [unicode:chardata()],
    evaluate_timeout => pos_integer()
}.

-type server_options() :: #{
    server := pid() | atom() | binary(),
    %% How it is called here; mandatory for a process.
    name => atom() | unicode:chardata(),
    %% Before every name, or by kind.
    prefix => unicode:chardata() | #{resource | tool | prompt => unicode:chardata()},
    reconcile_interval => pos_integer(),
    on_down => keep | withdraw,
    kinds => [resource | tool | prompt],
    except => [unicode:chardata()],
    evaluate_timeout => pos_integer()
}.

-type refused() :: [{resource | tool | prompt, Key :: binary(), Reason :: term()}].
%% `{taken, Server | exporter}', `{not_evaluated, Reason}', `{not_exported, Reason}' for what is no such thing in MCP, or
%% what the exporter says.

-record(state, {
    options :: erlmcp_shm_bridge_config:bridge(),
    table :: erlmcp_shm_tap:table(),
    servers = #{} :: #{Name :: binary() => erlmcp_shm_bridged:bridged()},
    %% Who asks the registry.
    asking = none :: pid() | none
}).

%% What was said of servers by attach/1 and detach/1, by name. It outlives a bridge that crashes, and no other.
-define(CHOSEN, {?MODULE, chosen}).
-define(ASK_MS, 1000).
-define(SYNC_MS, 60000).

%%% API

%% @doc Starts the node's bridge. (The application does, if its configuration says `bridge'.)
-spec start_link(options() | erlmcp_shm_bridge_config:bridge()) -> {ok, pid()} | ignore | {error, term()}.
start_link(Options) ->
    case erlmcp_shm_bridge_config:bridge(Options) of
        {ok, #{enabled := false}} -> ignore;
        {ok, Checked} -> gen_server:start_link({local, ?MODULE}, ?MODULE, Checked, []);
        {error, _} = Error -> Error
    end.

%% @doc For a supervisor of your own; an exporter should be started before.
-spec child_spec(options() | erlmcp_shm_bridge_config:bridge()) -> supervisor:child_spec().
child_spec(Options) ->
    #{id => ?MODULE, start => {?MODULE, start_link, [Options]}}.

%% @doc From now on, and whenever it is there, the server is published. (Until the bridge is stopped, while one that crashes
%% goes on with it: what should be so after the next start belongs into its configuration.) A name that has lost its
%% process can be given another.
-spec attach(server_options()) -> ok | {error, {already_attached, Name :: binary()} | term()}.
attach(Options) ->
    call({attach, Options}, infinity).

%% @doc Lets go of a server, and withdraws its entries.
-spec detach(Name :: binary() | atom()) -> ok | {error, not_attached | not_started}.
detach(Name) ->
    call({detach, name(Name)}, infinity).

%% @doc Returns once everything that the server has by now is published, and nothing else; or says what is not.
-spec sync(Name :: binary() | atom()) -> ok | {error, {refused, refused()} | not_attached | not_found | timeout | term()}.
sync(Name) ->
    call({sync, name(Name)}, ?SYNC_MS).

%% @doc Which servers there are, by name.
-spec info() ->
    #{
        Name :: binary() => #{
            server := pid() | atom() | binary(),
            state := looking | attached | down,
            pid := pid() | none,
            published := non_neg_integer(),
            refused := refused()
        }
    }
    | {error, not_started}.
info() ->
    call(info, infinity).

%% @private
%% For the end of the application, whose bridge may have been killed.
-spec forget() -> ok.
forget() ->
    _ = persistent_term:erase(?CHOSEN),
    ok.

name(Name) when is_atom(Name) -> atom_to_binary(Name);
name(Name) -> Name.

call(Request, Timeout) ->
    try
        gen_server:call(?MODULE, Request, Timeout)
    catch
        exit:{timeout, _} -> {error, timeout};
        exit:_ -> {error, not_started}
    end.

%%% The process

%% @private
-spec init(erlmcp_shm_bridge_config:bridge()) -> {ok, #state{}}.
init(#{servers := Servers} = Options) ->
    _ = process_flag(trap_exit, true),
    State = #state{options = Options, table = erlmcp_shm_tap:table()},
    _ = [?LOG_WARNING(#{what => bridge, trouble => {not_started, erlmcp_shm_exporter}}) || whereis(erlmcp_shm_exporter) =:= undefined],
    case Servers of
        all -> {ok, ask(start([], State))};
        _ -> {ok, start(Servers, State)}
    end.

start(Configured, State) ->
    Named = maps:from_list([{Name, Server} || #{name := Name} = Server <- Configured]),
    lists:foldl(fun add/2, State, [Server || #{} = Server <- maps:values(maps:merge(Named, chosen()))]).

chosen() ->
    persistent_term:get(?CHOSEN, #{}).

choose(Name, Choice) ->
    persistent_term:put(?CHOSEN, (chosen())#{Name => Choice}).

add(#{name := Name} = Server, #state{servers = Servers, table = Table} = State) ->
    State#state{servers = Servers#{Name => erlmcp_shm_bridged:new(Server, Table)}}.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}} | {noreply, #state{}}.
handle_call({attach, Server}, _From, #state{options = Options, servers = Servers} = State) ->
    case erlmcp_shm_bridge_config:server(Server, Options) of
        {ok, #{name := Name} = Checked} ->
            case Servers of
                #{Name := Bridged} ->
                    case erlmcp_shm_bridged:is_down(Bridged) of
                        true ->
                            _ = erlmcp_shm_bridged:stop(keep, Bridged),
                            {reply, ok, attached(Checked, State)};
                        false ->
                            {reply, {error, {already_attached, Name}}, State}
                    end;
                _ ->
                    {reply, ok, attached(Checked, State)}
            end;
        {error, _} = Error ->
            {reply, Error, State}
    end;
handle_call({detach, Name}, From, #state{servers = Servers} = State) ->
    case maps:take(Name, Servers) of
        {Bridged, Left} ->
            Removed = erlmcp_shm_bridged:stop(withdraw, Bridged),
            ok = choose(Name, detached),
            _ = spawn(fun() -> gen_server:reply(From, Removed()) end),
            {noreply, State#state{servers = Left}};
        error ->
            {reply, {error, not_attached}, State}
    end;
handle_call({sync, Name}, From, #state{servers = Servers} = State) ->
    case Servers of
        #{Name := Bridged} -> {noreply, State#state{servers = Servers#{Name := erlmcp_shm_bridged:sync(From, Bridged)}}};
        _ -> {reply, {error, not_attached}, State}
    end;
handle_call(info, _From, #state{servers = Servers} = State) ->
    {reply, maps:map(fun(_, Bridged) -> erlmcp_shm_bridged:info(Bridged) end, Servers), State};
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {noreply, #state{}, hibernate}.
handle_info({erlmcp_shm_tap, Id, What}, State) ->
    {noreply, whoever(fun(Bridged) -> erlmcp_shm_bridged:tapped(Id, What, Bridged) end, State)};
%% Collects what was looked at on the way, large values above all.
handle_info({worked, Name, Worker, Result}, State) ->
    {noreply, one(Name, fun(Bridged) -> erlmcp_shm_bridged:worked(Worker, Result, Bridged) end, State), hibernate};
handle_info({timeout, Timer, {due, Name}}, State) ->
    {noreply, one(Name, fun(Bridged) -> erlmcp_shm_bridged:due(Timer, Bridged) end, State)};
handle_info({timeout, Timer, {late, Name, Pid}}, State) ->
    {noreply, one(Name, fun(Bridged) -> erlmcp_shm_bridged:late(Timer, Pid, Bridged) end, State)};
handle_info({'DOWN', Monitor, process, _, Reason}, State) ->
    {noreply, whoever(fun(Bridged) -> erlmcp_shm_bridged:down(Monitor, Reason, Bridged) end, State)};
handle_info({'EXIT', Asking, _}, #state{asking = Asking} = State) ->
    _ = erlang:send_after(?ASK_MS, self(), ask),
    {noreply, State#state{asking = none}};
handle_info({'EXIT', Pid, Reason}, State) ->
    {noreply, whoever(fun(Bridged) -> erlmcp_shm_bridged:ended(Pid, Reason, Bridged) end, State)};
handle_info(ask, State) ->
    {noreply, ask(State)};
handle_info({registered, Ids}, State) ->
    {noreply, lists:foldl(fun found/2, State, Ids)};
handle_info(_Message, State) ->
    {noreply, State}.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(Reason, #state{servers = Servers}) ->
    _ = [forget() || Reason =:= normal orelse Reason =:= shutdown orelse is_tuple(Reason) andalso element(1, Reason) =:= shutdown],
    Removing = [spawn_monitor(erlmcp_shm_bridged:stop(keep, Bridged)) || Bridged <- maps:values(Servers)],
    _ = [
        receive
            {'DOWN', Monitor, process, Pid, _} -> ok
        end
     || {Pid, Monitor} <- Removing
    ],
    ok.

%%% Servers

attached(#{name := Name} = Server, State) ->
    ok = choose(Name, Server),
    add(Server, State).

one(Name, Fun, #state{servers = Servers} = State) ->
    case Servers of
        #{Name := Bridged} -> State#state{servers = Servers#{Name := Fun(Bridged)}};
        _ -> State
    end.

whoever(Fun, #state{servers = Servers} = State) ->
    whoever(Fun, maps:next(maps:iterator(Servers)), State).

whoever(_Fun, none, State) ->
    State;
whoever(Fun, {Name, Bridged, Others}, #state{servers = Servers} = State) ->
    case Fun(Bridged) of
        not_mine -> whoever(Fun, maps:next(Others), State);
        Changed -> State#state{servers = Servers#{Name := Changed}}
    end.

%% In a process of its own: the registry may take its time.
ask(State) ->
    Bridge = self(),
    State#state{asking = spawn_link(fun() -> Bridge ! {registered, erlmcp_shm_erlmcp:servers()} end)}.

found(Id, #state{options = Options, servers = Servers} = State) ->
    case erlmcp_shm_bridge_config:server(#{server => Id}, Options) of
        {ok, #{name := Name} = Server} when not is_map_key(Name, Servers) ->
            case chosen() of
                #{Name := detached} -> State;
                _ -> add(Server, State)
            end;
        _ ->
            State
    end.
