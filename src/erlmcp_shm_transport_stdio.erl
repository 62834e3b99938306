%% @doc One peer at the other end of this node's standard input and output, a message a line.
%%
%% Three processes: one reads, one writes, and one, the transport, waits for neither, so that it can always say what
%% it has taken. It reads no further while the peer leaves its answers lying, and ends, `slow_client', when more was
%% sent to it than it may keep.
%%
%% `io_device' names another device than `user'; its bytes are passed through as they are. At the end of the input
%% what was asked is still answered, for a while, and then the transport ends.
-module(erlmcp_shm_transport_stdio).

-behaviour(erlmcp_shm_transport).
-behaviour(gen_server).

-export([start_link/2, send/2, close/1, get_info/1, probe/2]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% Queued bytes from which on no further message is read.
-define(FULL, 1048576).
-define(DRAIN_MS, 5000).

-record(state, {
    owner :: pid(),
    config :: map(),
    session :: erlmcp_shm_session:session(),
    reader :: pid(),
    writer :: pid(),
    %% What the writer has not been given, newest first; what it has not written, in bytes, is counted too.
    queue = [] :: [iodata()],
    queued = 0 :: non_neg_integer(),
    writing = 0 :: non_neg_integer(),
    reading = true :: boolean(),
    eof = false :: boolean(),
    sent = 0 :: non_neg_integer(),
    report = [] :: [map()],
    closing = [] :: [gen_server:from()]
}).

%%% The behaviour

-spec start_link(map(), pid()) -> {ok, pid()} | {error, term()}.
start_link(Config, Owner) ->
    case start(maps:get(io_device, Config, user), {Config, Owner}) of
        {ok, _} = Ok -> Ok;
        {error, _} = Error -> Error;
        ignore -> {error, ignore}
    end.

%% Two that read the node's own input would each get half of it.
start(user, Args) -> gen_server:start_link({local, ?MODULE}, ?MODULE, Args, []);
start(_, Args) -> gen_server:start_link(?MODULE, Args, []).

-spec send(pid(), iodata()) -> ok | {error, term()}.
send(Pid, Data) ->
    erlmcp_shm_transport:send(Pid, Data).

-spec close(pid()) -> ok.
close(Pid) ->
    erlmcp_shm_transport:call(Pid, close, ok).

-spec get_info(pid()) -> erlmcp_shm_transport:info().
get_info(Pid) ->
    erlmcp_shm_transport:call(Pid, get_info, #{type => stdio, peers => 0, state => closed}).

%% Whether the transport answers, and the writer is not stuck.
-spec probe(pid(), timeout()) -> {ok, float()} | {error, term()}.
probe(Pid, Timeout) ->
    Start = erlang:monotonic_time(),
    try gen_server:call(Pid, probe, Timeout) of
        ok -> {ok, (erlang:monotonic_time() - Start) / erlang:convert_time_unit(1, millisecond, native)};
        {error, _} = Error -> Error
    catch
        exit:{timeout, _} -> {error, timeout};
        exit:_ -> {error, closed}
    end.

%%% The process

%% @private
-spec init({map(), pid()}) -> {ok, #state{}} | {stop, term()}.
init({Config, Owner}) ->
    Device = maps:get(io_device, Config, user),
    %% Bytes as they are; a device that knows no options has no say in it.
    _ = io:setopts(Device, [binary, {encoding, latin1}]),
    Self = self(),
    {ok, #state{
        owner = Owner,
        config = Config,
        session = erlmcp_shm_session:new(Self, Owner, Config),
        reader = spawn_link(fun() -> read(Self, Device) end),
        writer = spawn_link(fun() -> write(Self, Device) end)
    }}.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}} | {noreply, #state{}} | {stop, term(), term(), #state{}}.
handle_call({send, _}, _, #state{closing = [_ | _]} = State) ->
    {reply, {error, closed}, State};
handle_call({send, _}, _, #state{eof = true} = State) ->
    {reply, {error, no_peer}, State};
handle_call({send, Data}, From, #state{config = Config, queued = Queued, writing = Writing, sent = Sent} = State) ->
    case Queued + Writing + byte_size(Data) > erlmcp_shm_transport_config:option(max_queue_bytes, Config) of
        true when Queued + Writing > 0 ->
            {stop, {shutdown, slow_client}, {error, slow_client}, State};
        _ ->
            gen_server:reply(From, ok),
            done(message({erlmcp_shm_send, one_line(Data)}, State#state{sent = Sent + 1}))
    end;
handle_call(close, From, #state{closing = Closing, session = Session} = State) ->
    {Last, Drained} = erlmcp_shm_session:drain(Session),
    _ = erlang:send_after(?DRAIN_MS, self(), drained),
    done(queue(Last, State#state{session = Drained, closing = [From | Closing]}));
handle_call(probe, _, #state{eof = true} = State) ->
    {reply, {error, no_peer}, State};
handle_call(probe, _, #state{queued = Queued} = State) when Queued >= ?FULL ->
    {reply, {error, slow_client}, State};
handle_call(probe, _, State) ->
    {reply, ok, State};
handle_call(get_info, _, #state{eof = Eof, queued = Queued, writing = Writing, sent = Sent, report = Reports} = State) ->
    Peers =
        case Eof of
            true -> 0;
            false -> 1
        end,
    {reply, #{type => stdio, peers => Peers, queued_bytes => Queued + Writing, sent => Sent, client_metrics => Reports}, State};
handle_call(_, _, State) ->
    {reply, {error, unknown_call}, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({line, Line}, #state{session = Session, config = Config} = State) ->
    Idle = State#state{reading = false},
    Max = erlmcp_shm_transport_config:option(max_message_bytes, Config),
    case trimmed(Line) of
        <<>> ->
            done(Idle);
        Text when byte_size(Text) =< Max ->
            {Out, New} = erlmcp_shm_session:received(Text, Session),
            done(queue(Out, Idle#state{session = New}));
        _ ->
            {ok, Refused} = erlmcp_shm_json:encode(#{
                jsonrpc => <<"2.0">>, error => #{code => -32600, message => <<"Invalid Request: the message is too large">>}
            }),
            done(queue([Refused], Idle))
    end;
handle_info(eof, State) ->
    _ = erlang:send_after(?DRAIN_MS, self(), drained),
    done(State#state{eof = true});
handle_info({written, Bytes}, #state{writing = Writing} = State) ->
    done(State#state{writing = Writing - Bytes});
handle_info({broken, Reason}, State) ->
    {stop, {shutdown, {broken, Reason}}, State};
handle_info(drained, State) ->
    {stop, ended(State), State};
handle_info({erlmcp_shm_report, _, Report}, State) ->
    {noreply, State#state{report = [Report]}};
handle_info(Message, State) ->
    done(message(Message, State)).

message(Message, #state{session = Session} = State) ->
    case erlmcp_shm_session:message(Message, Session) of
        {Out, New} -> queue(Out, State#state{session = New});
        unknown -> State
    end.

%% After each event: the writer is given what there is, the reader is asked for more, and the end is looked for.
done(#state{} = State) ->
    #state{queued = Queued, writing = Writing, reading = Reading, eof = Eof, session = Session} = Given = give(State),
    Closing = Given#state.closing =/= [],
    Idle = Queued + Writing =:= 0 andalso erlmcp_shm_session:pending(Session) =:= 0,
    case Idle andalso (Eof orelse Closing) of
        true ->
            {stop, ended(Given), Given};
        false when not Reading, not Eof, not Closing, Queued + Writing < ?FULL ->
            Given#state.reader ! next,
            {noreply, Given#state{reading = true}};
        false ->
            {noreply, Given}
    end.

ended(#state{closing = [], session = Session} = State) ->
    {Last, _} = erlmcp_shm_session:drain(Session),
    _ = give(queue(Last, State)),
    {shutdown, eof};
ended(#state{closing = Closing}) ->
    _ = [gen_server:reply(From, ok) || From <- Closing],
    normal.

queue(Out, #state{queue = Queue, queued = Queued} = State) ->
    Lines = [[Json, $\n] || Json <- Out],
    State#state{queue = lists:reverse(Lines, Queue), queued = Queued + iolist_size(Lines)}.

%% All that waits goes in one write.
give(#state{queue = [_ | _] = Queue, queued = Queued, writing = 0, writer = Writer} = State) ->
    Writer ! {write, lists:reverse(Queue), Queued},
    State#state{queue = [], queued = 0, writing = Queued};
give(State) ->
    State.

trimmed(Line) ->
    [Text | _] = binary:split(Line, [<<"\r">>, <<"\n">>]),
    Text.

%% Line breaks stand between tokens only, in JSON.
one_line(Data) ->
    case binary:match(Data, [<<"\n">>, <<"\r">>]) of
        nomatch -> Data;
        _ -> binary:replace(Data, [<<"\n">>, <<"\r">>], <<" ">>, [global])
    end.

%%% Reading and writing

read(Transport, Device) ->
    case file:read_line(Device) of
        {ok, Line} ->
            Transport ! {line, iolist_to_binary(Line)},
            receive
                next -> read(Transport, Device)
            end;
        eof ->
            Transport ! eof;
        {error, Reason} ->
            Transport ! {broken, Reason}
    end.

write(Transport, Device) ->
    receive
        {write, Lines, Bytes} ->
            case file:write(Device, Lines) of
                ok ->
                    Transport ! {written, Bytes},
                    write(Transport, Device);
                {error, Reason} ->
                    Transport ! {broken, Reason}
            end
    end.
