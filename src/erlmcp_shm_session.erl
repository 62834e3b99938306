%% @private
%% One peer of a transport, where all messages go both ways through one channel: a session of the endpoint, and what
%% the transport sends besides. A value in the process that owns the channel.
%%
%% What the endpoint says goes out at once; what was sent through the transport goes out in batches. Their order is
%% that in which they came.
-module(erlmcp_shm_session).

-export([new/3, received/2, message/2, drain/1, pending/1]).

-export_type([session/0]).

-record(session, {
    transport :: pid(),
    owner :: pid(),
    endpoint :: erlmcp_shm_endpoint:session() | none,
    batch :: erlmcp_shm_batch:batch()
}).

-opaque session() :: #session{}.

%% @doc `endpoint => false' in the configuration: every message goes to the owner, and none is answered here.
-spec new(Transport :: pid(), Owner :: pid(), Config :: map()) -> session().
new(Transport, Owner, Config) ->
    #session{
        transport = Transport,
        owner = Owner,
        endpoint =
            case Config of
                #{endpoint := false} -> none;
                _ -> erlmcp_shm_endpoint:new(Config)
            end,
        batch = erlmcp_shm_batch:new(Config)
    }.

%% @doc A message from the peer, and what is to be written.
-spec received(binary(), session()) -> {[binary()], session()}.
received(Text, #session{endpoint = none, owner = Owner, transport = Transport} = S) ->
    Owner ! {transport_message, Transport, Text},
    {[], S};
received(Text, #session{endpoint = Endpoint} = S) ->
    done(erlmcp_shm_endpoint:handle(Text, Endpoint), S).

%% @doc An Erlang message.
-spec message(term(), session()) -> {[binary()], session()} | unknown.
message({erlmcp_shm_send, Data}, #session{batch = Batch} = S) ->
    {Out, New} = erlmcp_shm_batch:add(Data, Batch),
    {Out, S#session{batch = New}};
message(erlmcp_shm_batch_due, S) ->
    due(S);
message(_, #session{endpoint = none}) ->
    unknown;
message(Message, #session{endpoint = Endpoint} = S) ->
    case erlmcp_shm_endpoint:info(Message, Endpoint) of
        unknown -> unknown;
        Done -> done(Done, S)
    end.

%% @doc All that waits, and the end of streams that would not end by themselves. What is pending will still be answered.
-spec drain(session()) -> {[binary()], session()}.
drain(#session{endpoint = none} = S) ->
    due(S);
drain(#session{endpoint = Endpoint} = S) ->
    {Last, Drained} = done(erlmcp_shm_endpoint:drain(Endpoint), S),
    {Waited, New} = due(Drained),
    {Last ++ Waited, New}.

%% @doc How many requests have no answer yet.
-spec pending(session()) -> non_neg_integer().
pending(#session{endpoint = none}) -> 0;
pending(#session{endpoint = Endpoint}) -> erlmcp_shm_endpoint:pending(Endpoint).

done({Events, Endpoint}, S) ->
    out(lists:append([event(Event, S) || Event <- Events]), S#session{endpoint = Endpoint}).

event({reply, _, _, Json}, _) ->
    [Json];
event({about, _, Json}, _) ->
    [Json];
event({notify, Json}, _) ->
    [Json];
event({owner, Json}, #session{owner = Owner, transport = Transport}) ->
    Owner ! {transport_message, Transport, Json},
    [];
event({report, Report}, #session{transport = Transport}) ->
    ok = erlmcp_shm_metrics:client_report(self(), Report),
    Transport ! {erlmcp_shm_report, self(), Report},
    [];
event({cancelled, _}, _) ->
    [].

%% What waited goes first; where the endpoint says nothing, it goes on waiting.
out([], S) ->
    {[], S};
out(Now, S) ->
    {Waited, New} = due(S),
    {Waited ++ Now, New}.

due(#session{batch = Batch} = S) ->
    {Waited, New} = erlmcp_shm_batch:take(Batch),
    {Waited, S#session{batch = New}}.
