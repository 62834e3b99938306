%% @private
%% Where the node runs prometheus.erl, its default registry has our figures too, and whatever the node shows that
%% through. Nothing is kept there: they are collected when it is asked.
-module(erlmcp_shm_prometheus).

-behaviour(prometheus_collector).

-export([register/0, deregister/0]).

-export([collect_mf/2, deregister_cleanup/1]).

-spec register() -> ok.
register() ->
    in_registry(fun() -> prometheus_registry:register_collector(?MODULE) end).

-spec deregister() -> ok.
deregister() ->
    in_registry(fun() -> prometheus_registry:deregister_collector(?MODULE) end).

%% It may be on the code path and not run.
in_registry(Fun) ->
    case ets:whereis(prometheus_registry_table) of
        undefined ->
            ok;
        _ ->
            _ = Fun(),
            ok
    end.

%% @private
-spec collect_mf(atom(), fun((term()) -> term())) -> ok.
collect_mf(_Registry, Callback) ->
    lists:foreach(
        fun({Name, Type, Help, Samples}) ->
            Callback(prometheus_model_helpers:create_mf(Name, Help, Type, metrics(Type, Samples)))
        end,
        erlmcp_shm_metrics:samples()
    ).

metrics(summary, Samples) ->
    [Count, Sum] = [Value || Suffix <- [<<"_count">>, <<"_sum">>], {S, _, Value} <- Samples, S =:= Suffix],
    Quantiles = [{quantile(Q), Value} || {<<>>, [{quantile, Q}], Value} <- Samples, Value =/= nan],
    [prometheus_model_helpers:summary_metric([], Count, Sum, Quantiles)];
metrics(counter, Samples) ->
    [prometheus_model_helpers:counter_metric(Labels, Value) || {<<>>, Labels, Value} <- Samples];
metrics(gauge, Samples) ->
    [prometheus_model_helpers:gauge_metric(Labels, Value) || {<<>>, Labels, Value} <- Samples].

quantile(Quantile) ->
    binary_to_float(atom_to_binary(Quantile)).

%% @private
-spec deregister_cleanup(atom()) -> ok.
deregister_cleanup(_Registry) ->
    ok.
