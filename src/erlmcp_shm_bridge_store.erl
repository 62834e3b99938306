%% @private
%% What of the store is a server's. An entry that the bridge publishes says so in its metadata, and by that alone the
%% bridge knows its own from others': it replaces and withdraws nothing else.
-module(erlmcp_shm_bridge_store).

-export([put/4, withdraw/2, owner/2, published_by/1]).

-export_type([place/0, owner/0]).

-type place() :: {erlmcp_shm_erlmcp:kind(), Key :: binary()}.

-type owner() :: nobody | us | exporter | (Server :: binary()) | {error, term()}.
%% `exporter' is who exported it directly.

-define(MARK, <<"erlmcp_server">>).
-define(PAGE, 1000).

%% @doc Publishes; whether it may, the caller has looked.
-spec put(Server :: binary(), place(), Data :: map() | binary(), Metadata :: map()) -> ok | {error, term()}.
put(Server, {Kind, Key}, Data, Metadata) ->
    case erlmcp_shm_exporter:export_batch([{Kind, Key, Data, Metadata#{?MARK => Server}}]) of
        {error, {0, Reason}} -> {error, Reason};
        Result -> Result
    end.

%% @doc Withdraws what is ours.
-spec withdraw(Server :: binary(), place()) -> ok | {error, term()}.
withdraw(Server, {Kind, Key} = Place) ->
    case owner(Server, Place) of
        us -> erlmcp_shm_exporter:invalidate(Kind, Key);
        {error, _} = Error -> Error;
        _ -> ok
    end.

%% @doc Whose the entry is that is published there.
-spec owner(Server :: binary(), place()) -> owner().
owner(Server, {Kind, Key}) ->
    case erlmcp_shm_exporter:lookup(Kind, Key) of
        {error, not_found} ->
            nobody;
        {ok, _, #{metadata := Metadata}} ->
            case marked(Metadata) of
                Server -> us;
                none -> exporter;
                Other -> Other
            end;
        {error, _} = Error ->
            Error
    end.

%% @doc Every entry of a server's, those of an earlier run of the node included; `false' if that cannot be known.
-spec published_by(Server :: binary()) -> [place()] | false.
published_by(Server) ->
    published_by(Server, [resource, tool, prompt], <<>>, []).

published_by(_Server, [], _After, Found) ->
    Found;
published_by(Server, [Kind | Kinds], After, Found) ->
    case erlmcp_shm_store:list(Kind, After, ?PAGE) of
        {ok, {Entries, More}} ->
            Ours = [{Kind, Key} || {Key, _, Metadata} <- Entries, marked(Metadata) =:= Server],
            case More of
                true -> published_by(Server, [Kind | Kinds], element(1, lists:last(Entries)), Ours ++ Found);
                false -> published_by(Server, Kinds, <<>>, Ours ++ Found)
            end;
        {error, _} ->
            false
    end.

marked(Metadata) ->
    case erlmcp_shm_json:decode(Metadata) of
        {ok, #{?MARK := Server}} when is_binary(Server) -> Server;
        _ -> none
    end.
